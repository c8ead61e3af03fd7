"""The command itself: its verbs, faults as text, exit codes."""

import sys
import traceback

import click

from mailstack import console
from mailstack.cli import backup, build, config, dkim, dns, queue, status, trace
from mailstack.errors import MailstackError, StoppedError, os_reason
from mailstack.version import version


class _Group(click.Group):
    """Reports faults as text with their exit code; --debug shows the traceback."""

    def invoke(self, ctx: click.Context) -> object:
        try:
            try:
                return super().invoke(ctx)
            except (KeyboardInterrupt, click.Abort):
                raise StoppedError from None
            except BrokenPipeError:
                raise  # click's own business
            except OSError as error:
                where = f"{error.filename}: " if error.filename else ""
                raise MailstackError(f"{where}{os_reason(error)}") from error
        except MailstackError as error:
            if ctx.params.get("debug"):
                traceback.print_exception(error)
            console.fail(str(error))
            sys.exit(error.exit_code)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show a traceback if a command fails.")
@click.version_option(version(), message="mailstack %(version)s")
def main(*, debug: bool) -> None:
    """Turn one .env into a mail server on Docker. Works in the current directory, which has .env."""


for _verb in (
    *(build.init, build.build, build.base),
    *(status.status, status.first_steps, queue.queue, trace.trace),
    *(config.config, dkim.dkim, dns.dns),
    *(backup.backup, backup.restore),
):
    main.add_command(_verb)
