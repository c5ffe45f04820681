"""`lanjie catalogue`: publishing measure lists (Art. 45) and reading what is published."""

from pathlib import Path
from typing import Annotated

import typer

from lanjie_gateway.cli import editions, render, signatures
from lanjie_gateway.cli.gateway_file import (
    AsJson,
    CommandError,
    Listener,
    Person,
    Target,
)

MAX_FILE_BYTES = 4 * 1024 * 1024
app = typer.Typer(help="Measure lists: publish, show, sign, verify.", no_args_is_help=True)
app.command("make-key")(signatures.make_key)
app.command("sign")(signatures.sign)
app.command("verify")(signatures.verify)


@app.command()
def publish(
    file: Annotated[Path, typer.Argument(help="Catalogue file, YAML.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the file, and say what it changes.")] = False,
    signing_key: signatures.SigningKeyFile = None,
    signature: signatures.SignatureFile = None,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Publish one edition of a measure list, signed; a refusal names file, entry and rule."""
    from lanjie.v1 import catalogue_pb2
    from lanjie_gateway.cli.admin import connect
    from lanjie_gateway.domain.signing import SignedKind

    try:
        content = file.read_bytes()
    except OSError as error:
        raise CommandError(f"{file} cannot be read: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise CommandError(f"{file} is larger than 4 MiB")
    signed = None
    if not dry_run:
        signed = signatures.signature_of(
            target, SignedKind.CATALOGUE, content, signing_key=signing_key, signature=signature
        )
    with connect(target.endpoint(Listener.ADMIN, Person.MANAGER)) as admin:
        answer = admin.call(
            admin.catalogues.Publish,
            catalogue_pb2.PublishRequest(
                file=content, file_name=file.name, dry_run=dry_run, **signatures.fields(signed)
            ),
        )
    if as_json:
        values = {
            "catalogue": render.edition_dict(answer.edition),
            "revision": answer.revision,
            "dry_run": dry_run,
            "warnings": list(answer.warnings),
            "changes": render.message_dict(answer.changes),
        }
        render.emit(values)
        return
    console = render.console()
    done = "would be published (dry run)" if dry_run else f"published, revision {answer.revision}"
    console.print(f"{answer.edition.catalogue_id}@{answer.edition.edition} {done}", style="bold green")
    console.print(render.editions_table([answer.edition]))
    told = editions.changes_view if dry_run else editions.changes_summary
    console.print(told(answer.changes))
    for warning in answer.warnings:
        console.print(f"worth a look: {warning}", style="yellow")


@app.command()
def show(
    catalogue_id: Annotated[str, typer.Argument(metavar="[ID]", help="Id of one catalogue; all when left out.")] = "",
    *,
    edition: Annotated[str, typer.Option(help="Edition; the newest when left out.")] = "",
    on: Annotated[str, typer.Option(metavar="DATE", help="Day to show the states on; today when left out.")] = "",
    raw: Annotated[bool, typer.Option("--file", help="Print the published file itself.")] = False,
    signature: Annotated[bool, typer.Option("--signature", help="Print its signature, for `verify`.")] = False,
    target: Target,
    as_json: AsJson = False,
) -> None:
    """Show the published editions, or one of them, and where each stands in its life."""
    from lanjie.v1 import catalogue_pb2
    from lanjie_gateway.cli.admin import connect

    if (raw or signature) and not catalogue_id:
        raise CommandError("--file and --signature need the ID of one catalogue")
    with connect(target.endpoint(Listener.ADMIN, Person.AGENCY)) as admin:
        request = catalogue_pb2.GetCatalogueRequest(catalogue_id=catalogue_id, edition=edition, on_date=on)
        found = admin.call(admin.catalogues.GetCatalogue, request).editions
    if raw:
        typer.echo(found[0].file.decode("utf-8"), nl=False)
    elif signature:
        typer.echo(signatures.signature_text(found[0]))
    elif as_json:
        render.emit([render.edition_dict(each) for each in found])
    else:
        console = render.console()
        console.print(render.editions_table(found))
        for each in found:
            console.print(signatures.signature_line(each))
