"""What a command says of a gateway that gives no answer."""

import socket

import pytest

from lanjie.v1 import listing_pb2
from lanjie_gateway.adapters import feed_hub
from lanjie_gateway.cli import admin
from lanjie_gateway.cli.gateway_file import CommandError, Endpoint


def remove(address: str) -> None:
    with admin.connect(Endpoint(address=address, token="token")) as connection:
        connection.call(connection.listings.Remove, listing_pb2.RemoveRequest(), seconds=1)


def test_an_act_without_an_answer_may_be_done():
    with socket.create_server(("127.0.0.1", 0)) as mute:
        with pytest.raises(CommandError, match="may be done all the same"):
            remove(f"127.0.0.1:{mute.getsockname()[1]}")
        nobody = mute.getsockname()[1]
    with pytest.raises(CommandError, match="no gateway answers"):
        remove(f"127.0.0.1:{nobody}")


def test_a_command_waits_longer_than_control_for_its_workers():
    assert admin.SECONDS > feed_hub.ACK_SECONDS
