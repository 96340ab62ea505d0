"""The command line: parses, calls a verb of `worldplan.commands`, turns errors into messages and exit statuses."""

from __future__ import annotations

import shlex
import sys
import warnings
from collections.abc import Sequence

import tyro

from worldplan.commands import VERBS, Command, Verb
from worldplan.commands.sweep import Sweep
from worldplan.errors import ProcessLost, WorldplanError
from worldplan.stopping import STATUS, Stopped, ending_on_sigterm
from worldplan.version import __version__

ABOUT = "Plan to goals from pixels in the latent space of a frozen encoder. --version tells the version."


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        0 done, 1 a check did not pass, 2 wrong input or no way to run, 75 stopped by SIGTERM or by the end of another
        process (the same command goes on with --resume, if it has that), 130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if arguments == ["--version"]:
        print(f"worldplan {__version__}")
        return 0
    verb, command = parse(arguments), shlex.join(["worldplan", *arguments])
    with warnings.catch_warnings(), ending_on_sigterm():
        warnings.showwarning = lambda message, *rest, **more: print(f"warning: {message}", file=sys.stderr)
        try:
            verb.check()
            return verb.run(command)
        except ProcessLost as error:
            print(f"error: {error}\n{verb.advice(command)}", file=sys.stderr)
            return STATUS
        except (WorldplanError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            if isinstance(error, OSError) and type(verb).advice is not Verb.advice:
                print(verb.advice(command), file=sys.stderr)
            return 2
        except KeyboardInterrupt as error:
            stopped = isinstance(error, Stopped)
            print(f"\n{'stopped by SIGTERM' if stopped else 'interrupted'}; {verb.advice(command)}", file=sys.stderr)
            return STATUS if stopped else 130


def parse(arguments: Sequence[str]) -> Verb:
    """The verb with its options. It is parsed alone: an error names the help page of this verb, not of all."""
    what, names, kinds = Command, ["worldplan"], VERBS
    while arguments and (name := arguments[0].replace("_", "-")) in kinds:
        what, names, arguments = kinds[name], [*names, name], arguments[1:]
        kinds = getattr(what, "kinds", {})
    config = tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes
    about = ABOUT if what is Command else None  # a verb's docstring tells what it does
    verb: Verb = tyro.cli(what, prog=" ".join(names), description=about, args=arguments, config=config)
    return verb


Sweep.parse = staticmethod(parse)


if __name__ == "__main__":
    sys.exit(main())
