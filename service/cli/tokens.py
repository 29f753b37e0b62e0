"""`gpuledger token create`, `ls` and `revoke`: who may use the API. On the service's host.

They change the file in the data directory, beside the running service, which sees it by itself.
"""

import json
from typing import Annotated, Any

import typer

from events.codec import show_time
from service.access_ports import ROLES, Role, Token
from service.cli import show
from service.cli.failures import NotFound, reported
from service.cli.serve import PANEL, DataDir, settings_of
from service.cli.session import AsJson
from service.cli.surroundings import Surroundings
from service.settings_text import token_name

DAYS_MIN = 0.01
"""A quarter of an hour: one that is expired when it is made locks everybody out."""

DAYS_MAX = 36_500

Name = Annotated[
    str, typer.Option("--name", metavar="NAME", help="Who it is for; records name it so")
]
RoleOption = Annotated[
    str,
    typer.Option(
        "--role",
        metavar="ROLE",
        help="viewer (may look), operator (and run containers), admin (and all else)",
    ),
]
Tenant = Annotated[
    str, typer.Option("--tenant", metavar="NAME", help="What records name as the tenant")
]
ExpiresDays = Annotated[
    float | None,
    typer.Option(
        "--expires-days",
        metavar="N",
        min=DAYS_MIN,
        max=DAYS_MAX,
        help="For so many days it is valid",
        show_default=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Add the group to the app."""
    group = typer.Typer(
        name="token", help="Who may use the API; on the service's host.", no_args_is_help=True
    )
    group.command("create")(create)
    group.command("ls")(listing)
    group.command("revoke")(revoke)
    app.add_typer(group, rich_help_panel=PANEL)


def create(
    ctx: typer.Context,
    name: Name,
    role: RoleOption,
    tenant: Tenant = "",
    expires_days: ExpiresDays = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a token and print it, this once: only its hash is kept."""
    allowed = _role(role)
    _check_name(name, "--name")
    if tenant:
        _check_name(tenant, "--tenant")
    with reported():
        settings = settings_of(ctx)
        # Here and not above: it loads all of the service.
        from service.bootstrap.access import create_token

        text, token = create_token(settings, name, allowed, tenant, expires_days)
    if as_json:
        typer.echo(_json({**_shown(token), "token": text}))
        return
    typer.echo(f"{name} is {role}; this is its token, shown this once:", err=True)
    typer.echo(text)


def listing(ctx: typer.Context, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """List the tokens, without what they are."""
    with reported():
        settings = settings_of(ctx)
        from service.bootstrap.access import list_tokens

        tokens = list_tokens(settings)
    if as_json:
        typer.echo(_json({"tokens": [_shown(token) for token in tokens]}))
        return
    surroundings: Surroundings = ctx.obj
    now_us = round(surroundings.now_s() * 1e6)
    rows = [
        (token.name, token.role, token.tenant, _instant(token.created_us), _end(token, now_us))
        for token in tokens
    ]
    headings = ("NAME", "ROLE", "TENANT", "CREATED", "EXPIRES")
    text = show.table(headings, rows) if rows else f"no tokens in {settings.data_dir}\n"
    typer.echo(text, nl=False)


def revoke(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As it was named")],
    data_dir: DataDir = None,
) -> None:
    """Make a token worthless, at once."""
    with reported():
        settings = settings_of(ctx)
        from service.bootstrap.access import list_tokens, revoke_token

        if not revoke_token(settings, name):
            raise NotFound(f"there is no token {name}")
        left = list_tokens(settings)
    typer.echo(f"{name} is revoked")
    if not left:
        typer.echo(
            "no token is left: on a loopback address everybody on the host is let in now", err=True
        )


def _role(text: str) -> Role:
    for role in ROLES:
        if role == text:
            return role
    raise typer.BadParameter(f"{text!r}; allowed: {', '.join(ROLES)}", param_hint="--role")


def _check_name(text: str, flag: str) -> None:
    try:
        token_name(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=flag) from None


def _shown(token: Token) -> dict[str, Any]:
    expires_us = token.expires_us
    return {
        "name": token.name,
        "role": token.role,
        "tenant": token.tenant,
        "createTime": show_time(token.created_us),
        "expireTime": None if expires_us is None else show_time(expires_us),
    }


def _instant(at_us: int) -> str:
    return show.moment(show_time(at_us))


def _end(token: Token, now_us: int) -> str:
    if token.expires_us is None:
        return "never"
    return "expired" if token.expired(now_us) else _instant(token.expires_us)


def _json(data: dict[str, Any]) -> str:
    return json.dumps(data, ensure_ascii=False, indent=2)
