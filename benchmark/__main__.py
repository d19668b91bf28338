"""The command line, put together from `benchmark.cli`, and how a command ends."""

import os
import shlex
import sys

import typer

from benchmark.cli import advise, checks, cluster, data, encoders, reader, run
from benchmark.cli.options import with_options
from benchmark.execution.slurm import requeue
from benchmark.training import stopping
from tasks import host
from tasks.base import DataError, ProcessError

INTERRUPTED = 130  # exit code of a command stopped by Ctrl-C
PANELS = {  # of `--help`
    "The benchmark": {"run": run.run, "plan": run.plan, "data": data.app, "advise": advise.advise},
    "Encoders": {
        "probe": encoders.probe,
        "export": encoders.export,
        "maps": encoders.maps,
        "views": encoders.views,
        "reader": reader.app,
    },
    "This machine, and clusters": {"doctor": checks.doctor, "slurm": cluster.app},
    "Do the numbers hold?": {"regression": checks.regression, "reproduce": checks.reproduce},
}

app = typer.Typer(
    help="Pretext Bench: pretrain every pretext on every modality, probe the frozen encoders, rank them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for panel, commands in PANELS.items():
    for name, command in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, rich_help_panel=panel)
        else:
            app.command(name, rich_help_panel=panel)(with_options(command))
app.command("tracks", hidden=True)(run.print_tracks)  # the help of --track names it


def main() -> None:
    """Errors of input are one clear line and exit code 2; who stops it is told how to go on."""
    stopping.listen()
    try:
        app()
    except BaseException as error:
        sys.exit(end(stopping.find_request(error)))


def end(error: BaseException) -> int:
    """Say why the command ends; its exit code. Raises what is neither bad input nor a wish to stop."""
    from benchmark.storage.schema import SchemaError  # loads pyarrow, for which `--help` need not wait

    if isinstance(error, (SchemaError, DataError, ValueError, ProcessError, MemoryError)):
        print(f"error: {error}", file=sys.stderr)
        return 2
    if isinstance(error, OSError):  # a full disk, a folder that may not be written to, a share that went away
        print(f"error: {error}; everything finished is kept: mend that, then repeat the command", file=sys.stderr)
        return 2
    interrupted = isinstance(error, SystemExit) and error.code == INTERRUPTED  # what typer makes of Ctrl-C
    if not interrupted and not isinstance(error, (KeyboardInterrupt, stopping.Stopped)):
        raise error
    stopping.ignore()
    by_make = shlex.split(os.environ.get("PRETEXT_BENCH_COMMAND", ""))
    again = shlex.join(by_make or ["python", "-m", "benchmark", *sys.argv[1:]])
    print(f"\nstopped; everything finished is kept. To go on: {again}", file=sys.stderr)
    if isinstance(error, stopping.Stopped) and (queued := requeue()):
        print(queued, file=sys.stderr)
    return getattr(error, "code", INTERRUPTED)


if __name__ == "__main__":
    host.use_utf8()
    main()
