"""What `lanjie` exports, its errors, its decisions."""

import datetime
import doctest
import importlib.metadata
import subprocess
import sys

import pytest

import lanjie
import lanjie.testing
from lanjie import errors
from lanjie.decision import decision_from
from lanjie.v1 import errors_pb2
from lanjie.v1 import screening_pb2 as pb

NOW = datetime.datetime(2026, 3, 2, 9, 0, tzinfo=datetime.UTC)


def passed(**replaced):
    given = {
        "outcome": lanjie.Outcome.PASS,
        "instruction": "办理",
        "as_of": NOW,
        "decided_at": NOW,
        "source": lanjie.Source.LOCAL,
        "masked_identifier": "uscc:9132**********DE0X",
    }
    return lanjie.Decision(**{**given, **replaced})


def test_all_names_what_can_be_imported():
    for name in lanjie.__all__:
        assert getattr(lanjie, name) is not None
    assert set(dir(lanjie)) == set(lanjie.__all__)
    tree = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert tree <= set(lanjie.__all__)
    with pytest.raises(AttributeError):
        lanjie.nothing  # noqa: B018


def test_the_version_is_that_of_the_distribution():
    assert lanjie.__version__ == importlib.metadata.version("lanjie")


def test_importing_the_package_loads_neither_grpc_nor_the_stubs():
    code = "import sys, lanjie; print(sorted(m for m in sys.modules if m.startswith(('grpc', 'lanjie.', 'google'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_reason_has_its_error():
    reasons = {name.removeprefix("ERROR_REASON_") for name, _ in errors_pb2.ErrorReason.items()}
    assert set(errors.BY_REASON) == reasons - {"UNSPECIFIED"}
    for reason in errors.BY_REASON:
        error = errors.error_of("INTERNAL", reason, "text", {"rule": "length"})
        assert isinstance(error, lanjie.LanjieError)
        assert error.reason == reason


def test_errors_are_what_callers_catch():
    assert issubclass(lanjie.InvalidIdentifier, ValueError)
    assert issubclass(lanjie.InvalidArgument, ValueError)
    assert issubclass(lanjie.UnknownMatter, LookupError)
    for reason, told, wanted in (("OVERLOADED", {"retry_after_ms": "250"}, 0.25), ("", {}, 1.0)):
        error = errors.error_of("RESOURCE_EXHAUSTED", reason, "", told)
        assert isinstance(error, lanjie.RateLimited)
        assert error.retry_after == wanted
    assert isinstance(errors.error_of("DATA_LOSS", "", "uscc:91320102MA1ABCDE0X", {}), lanjie.GatewayFault)
    assert "9132" not in str(errors.error_of("DATA_LOSS", "", "uscc:91320102MA1ABCDE0X", {}))


def test_a_decision_is_no_boolean():
    with pytest.raises(TypeError, match="outcome"):
        bool(passed())


def test_a_pass_leaves_no_trace_of_a_listing():
    listing = lanjie.ListingEvidence(listing_id="1", list_type="t")
    with pytest.raises(ValueError, match="pass"):
        passed(listings=(listing,))
    message = pb.Decision(outcome=pb.OUTCOME_PASS, source=pb.SOURCE_GATEWAY)
    message.listings.add(listing_id="1")
    with pytest.raises(ValueError, match="pass"):
        decision_from(message)


def test_an_unknown_outcome_is_never_read_as_a_pass():
    # The first field, as a varint: no outcome, and one of a later version.
    for raw in (b"", b"\x08\x63"):
        with pytest.raises(ValueError, match="not know"):
            decision_from(pb.Decision.FromString(raw))


def test_a_decision_reads_every_field_and_shows_little():
    message = pb.Decision(
        outcome=pb.OUTCOME_INTERCEPT,
        source=pb.SOURCE_GATEWAY,
        instruction="拦截",
        revision=7,
        decision_id="w1-9",
        masked_identifier="uscc:9132**********DE0X",
        confirmation_required=True,
        officer_verifies=["核实"],
        catalogue_editions=["js@2026"],
    )
    message.measures.add(code="M1", title="t", content="c", effect=pb.EFFECT_DENY, basis="b", department="d")
    message.listings.add(listing_id="L1", list_type="t", authority="a", expires_date="2026-12-31", objection=True)
    decision = decision_from(message)
    assert decision.measures[0].effect is lanjie.Effect.DENY
    assert decision.listings[0].expires_on == datetime.date(2026, 12, 31)
    assert decision.listings[0].objection
    assert decision.resolve_by is None
    assert repr(decision) == "<Decision INTERCEPT uscc:9132**********DE0X M1 gateway r7 w1-9>"


def test_the_docstring_example_of_the_double_runs():
    assert doctest.testmod(lanjie.testing).failed == 0
