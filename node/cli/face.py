"""How `truc` reads: commands and options that carry both languages, help and usage errors in the one asked for.

Knows click only; what a command does is its own file's matter.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from node.cli.talk import CONFIG_KEY, LANG_KEY, Code, Stop, Texts, t
from node.core.words import LANGUAGES

_F = TypeVar("_F", bound=Callable[..., Any])


class Option(click.Option):
    """An option whose help is in both languages."""

    def __init__(self, *args: Any, texts: Texts, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.texts = texts

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.help = t(*self.texts) + (f" [{t('bắt buộc', 'required')}]" if self.required else "")
        required, self.required = self.required, False  # click would add its own English word
        try:
            return super().get_help_record(ctx)
        finally:
            self.required = required


def option(*names: str, texts: Texts, **kwargs: Any) -> Callable[[_F], _F]:
    return click.option(*names, cls=Option, texts=texts, **kwargs)


def _remember(key: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    def callback(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        if value is not None:
            ctx.meta[key] = value
        return value

    return callback


def _lang_option() -> Option:
    return Option(
        ["--lang"],
        texts=("ngôn ngữ (mặc định: vi, hoặc biến TRUC_LANG)", "language (default: vi, or TRUC_LANG)"),
        type=click.Choice(LANGUAGES),
        expose_value=False,
        is_eager=True,
        callback=_remember(LANG_KEY),
    )


def config_option(function: _F) -> _F:
    """`--config PATH`, before or after the command's name."""
    return option(
        "--config",
        metavar="PATH",
        expose_value=False,
        callback=_remember(CONFIG_KEY),
        texts=(
            "tệp cấu hình của nút (mặc định: biến TRUC_CONFIG, rồi /etc/truc/node.toml)",
            "the node's configuration (default: TRUC_CONFIG, then /etc/truc/node.toml)",
        ),
    )(function)


json_option = option("--json", "as_json", is_flag=True, texts=("in mỗi mục một dòng JSON", "print one JSON line per item"))
hosts_option = option(
    "--host",
    "hosts",
    metavar="NAME",
    multiple=True,
    texts=("tên máy của cổng cho cơ quan (localhost); lặp lại được", "host name of the office listener (localhost); repeatable"),
)
listen_option = option(
    "--listen",
    metavar="ADDRESS",
    default="127.0.0.1",
    texts=("địa chỉ chờ kết nối của nút và của cơ quan (127.0.0.1)", "address of the listeners (127.0.0.1)"),
)
why_option = option("--why", metavar="TEXT", default="", texts=("lý do, ghi vào nhật ký", "the reason, for the journal"))
yes_option = option("--yes", is_flag=True, texts=("không hỏi lại", "do not ask"))


class _Bilingual(click.Command):
    """Help in both languages; `--lang` works after every command's name too."""

    def __init__(self, *args: Any, texts: Texts, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.texts = texts
        self.params.append(_lang_option())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # the parser itself does not know in which command it stands
            raise

    def get_short_help_str(self, limit: int = 45) -> str:
        return t(*self.texts).split("\n", 1)[0].rstrip(".")

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        found = super().get_help_option(ctx)
        if found is not None:
            found.help = t("in phần trợ giúp này", "show this help")
        return found

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        pieces = [t("[TÙY CHỌN]", "[OPTIONS]") if piece == "[OPTIONS]" else piece for piece in self.collect_usage_pieces(ctx)]
        pieces = [t("LỆNH [THAM SỐ]...", "COMMAND [ARGS]...") if piece == "COMMAND [ARGS]..." else piece for piece in pieces]
        formatter.write_usage(ctx.command_path, " ".join(pieces), prefix=t("Cách dùng: ", "Usage: "))

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        formatter.write_paragraph()
        with formatter.indentation():
            for paragraph in t(*self.texts).split("\n"):
                formatter.write_text(paragraph)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        records = [param.get_help_record(ctx) for param in self.get_params(ctx) if isinstance(param, click.Option)]
        with formatter.section(t("Tùy chọn", "Options")):
            formatter.write_dl([record for record in records if record is not None])


class Command(_Bilingual):
    """One verb."""


@dataclass(frozen=True, slots=True)
class Late:
    """A command that is imported only when it is called: `module:attribute` and the line that the list shows."""

    where: str
    texts: Texts


class Group(_Bilingual, click.Group):
    """A noun with its verbs, or the whole; verbs may be `Late`."""

    command_class = Command

    def __init__(self, *args: Any, late: Mapping[str, Late] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.late = late or {}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.late, *self.commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.late:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.late[cmd_name].where.partition(":")
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.list_commands(ctx) and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = t(f" Có phải {close[0]}?", f" Did you mean {close[0]}?") if close else ""
            raise click.UsageError(t(f"không có lệnh “{args[0]}”.", f"there is no command “{args[0]}”.") + hint, ctx)
        return super().resolve_command(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        _Bilingual.format_options(self, ctx, formatter)
        rows = [(name, t(*late.texts)) for name, late in self.late.items()]
        rows += [(name, command.get_short_help_str()) for name, command in self.commands.items()]
        with formatter.section(t("Lệnh", "Commands")):
            formatter.write_dl(rows)


class Root(Group):
    """The whole command: every failure leaves through here, in the language asked for and with its exit code."""

    def main(self, *args: Any, **extra: Any) -> Any:
        run: Callable[..., Any] = super().main
        if not extra.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **extra)
        try:
            result = run(*args, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(Code.USAGE)
        except click.UsageError as error:
            _show_usage_error(error)
            sys.exit(Code.USAGE)
        except Stop as stop:
            stop.show()
            sys.exit(stop.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("", err=True)
            sys.exit(Code.FAILED)
        sys.exit(result if isinstance(result, int) else Code.DONE)


def _show_usage_error(error: click.UsageError) -> None:
    context = error.ctx
    with context.scope(cleanup=False) if context else click.Context(click.Command("truc")):
        click.echo(f"{t('Lỗi', 'Error')}: {_usage_message(error)}", err=True)
        if context:
            see = f"{context.command_path} --help"
            click.echo(t(f"Cần làm: xem {see}", f"To do: see {see}"), err=True)


def _usage_message(error: click.UsageError) -> str:
    if isinstance(error, click.NoSuchOption):
        close = f" {t('Có phải', 'Did you mean')} {error.possibilities[0]}?" if error.possibilities else ""
        return t(f"không có tùy chọn {error.option_name}.", f"there is no option {error.option_name}.") + close
    if isinstance(error, click.MissingParameter):
        return t(f"còn thiếu {_name(error)}.", f"{_name(error)} is missing.")
    if isinstance(error, click.BadParameter):
        return t(f"giá trị của {_name(error)} không hợp lệ", f"invalid value for {_name(error)}") + f": {_expected(error)}"
    if isinstance(error, click.BadOptionUsage):
        name = error.option_name
        return t(f"tùy chọn {name} thiếu hoặc thừa giá trị.", f"option {name} has a value too few or too many.")
    return error.message


def _name(error: click.BadParameter) -> str:
    param = error.param
    if param is None:
        return t("tham số", "a parameter")
    return param.opts[0] if isinstance(param, click.Option) else param.human_readable_name


def _expected(error: click.BadParameter) -> str:
    """What stands where click's own sentence would be English."""
    kind = error.param.type if error.param else None
    if isinstance(kind, click.Choice):
        choices = ", ".join(map(str, kind.choices))
        return t(f"chọn một trong: {choices}", f"choose one of: {choices}")
    if isinstance(kind, click.IntRange):
        return t(f"cần số nguyên {kind.min}..{kind.max or ''}", f"a whole number {kind.min}..{kind.max or ''} is needed")
    if isinstance(kind, click.types.IntParamType):
        return t("cần số nguyên", "a whole number is needed")
    return error.message
