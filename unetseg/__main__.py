"""The command line: a table of verbs. Help costs no import of torch."""

import importlib
import os
import sys
from collections.abc import Sequence

from unetseg.errors import UnetsegError

__all__ = ["main"]

_VERBS = {
    "fit": ("train a model: on the built-in data, or on your own with --data.root", "unetseg.cli"),
    "validate": ("IoU of a checkpoint on the validation split", "unetseg.cli"),
    "test": ("IoU of a checkpoint on the test split", "unetseg.cli"),
    "predict": ("write a mask for every image of files and folders", "unetseg.inference.command"),
    "export": ("write a network as a file that runs without PyTorch, and prove it", "unetseg.export.command"),
    "inspect": ("sizes, alignment, parameters and FLOPs of every stage", "unetseg.inspection.command"),
    "check-data": ("read every pair of a data set and say what is wrong with it", "unetseg.checking.command"),
    "pack": ("write a data set into shards, for training from a slow or a shared disk", "unetseg.packing"),
}

_HELP = f"""usage: python -m unetseg VERB [options]

{chr(10).join(f"  {verb:<12} {line}" for verb, (line, _) in _VERBS.items())}

python -m unetseg VERB --help lists a verb's options.
"""


def main(args: Sequence[str] | None = None) -> int:
    """Run a verb.

    Args:
        args: The verb and its options; those of the command line if None.

    Returns:
        The exit code: 0, 1 for a mistake in the data or the files, 2 for one in the options.
    """
    args = list(sys.argv[1:] if args is None else args)
    if not args or args[0] in ("-h", "--help"):
        sys.stdout.write(_HELP)
        return 0 if args else 2
    if args[0] == "--version":
        from unetseg import __version__

        sys.stdout.write(f"{__version__}\n")
        return 0
    if args[0] not in _VERBS:
        sys.stderr.write(f"error: {args[0]!r} is no verb; the verbs are {', '.join(_VERBS)}.\n")
        return 2
    try:
        module = _VERBS[args[0]][1]
        # LightningCLI tells its verbs apart by itself
        code = importlib.import_module(module).main(args if module == "unetseg.cli" else args[1:])
    except UnetsegError as error:
        sys.stderr.write(f"error: {_without_worker_traceback(error)}\n")
        return 1
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "unetseg":
            raise
        sys.stderr.write(
            f"error: {args[0]} needs {error.name}, which isn't installed: pip install -e . in a clone brings all that "
            f"is needed. Only predict --model does with less.\n"
        )
        return 1
    except BrokenPipeError:  # whoever reads the output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # a full disk, a folder that can't be written
        if error.filename is None:
            raise
        sys.stderr.write(f"error: {error.filename}: {error.strerror}.\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return int(code or 0)


def _without_worker_traceback(error: UnetsegError) -> str:
    """A loader's worker process puts its whole traceback into the message; the mistake stands at its end."""
    return str(error).rsplit(f"{type(error).__module__}.{type(error).__name__}: ", 1)[-1].strip()


if __name__ == "__main__":
    sys.exit(main())
