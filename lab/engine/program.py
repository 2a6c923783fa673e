"""Run a Pulumi program: the child process of language.py.

Started by its path with the program's own Python, which may have the Pulumi SDK and nothing of
this project. The engine's RunRequest comes on stdin.
"""

import asyncio
import logging
import os
import runpy
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

REPORTED = 32  # The exit code that says: the user has been told what went wrong.

try:
    import pulumi
    from pulumi.runtime import Settings, configure, run_in_stack, set_all_config
    from pulumi.runtime.proto import language_pb2
except ImportError as error:
    sys.exit(
        f"{sys.executable}: the Pulumi SDK cannot be imported ({error}).\n"
        "The program is run by this Python and needs it.\n"
        "Install the program's requirements there."
    )


def main() -> None:
    """Run the program that stdin describes, and say in the exit code how it went."""
    request = language_pb2.RunRequest.FromString(sys.stdin.buffer.read())
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    set_all_config(dict(request.config), list(request.configSecretKeys))
    configure(
        Settings(
            monitor=request.monitor_address,
            engine=request.args[0] if request.args else None,
            project=request.project,
            stack=request.stack,
            parallel=request.parallel,
            dry_run=request.dryRun,
            organization=request.organization,
            root_directory=request.info.root_directory,
        )
    )
    # As if the program itself had been started.
    program = os.path.abspath(Path(request.info.program_directory, request.info.entry_point))
    sys.argv = [program]
    del sys.path[0]
    sys.exit(0 if run(program, request.parallel) else REPORTED)


def run(program: str, parallel: int) -> bool:
    """Run a program, a folder or a file, until all its resources are registered."""
    # The SDK waits for the engine on the loop's threads; too few of them slow down a big program.
    threads = ThreadPoolExecutor(max_workers=max(parallel, 1) * 4)
    loop = asyncio.new_event_loop()
    loop.set_default_executor(threads)
    asyncio.set_event_loop(loop)
    # After a failure the SDK leaves tasks unobserved, of which asyncio would complain at length.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        loop.run_until_complete(run_in_stack(lambda: _execute(program)))
    except pulumi.RunError as error:
        pulumi.log.error(str(error))
        return False
    except Exception as error:
        pulumi.log.error(f"Program failed with an unhandled exception:\n{_trace(error, program)}")
        return False
    finally:
        threads.shutdown(wait=True)
        loop.close()
    return True


def _execute(program: str) -> None:
    runpy.run_path(program, run_name="__main__")


def _trace(error: Exception, program: str) -> str:
    """The traceback from the program on, without what called it."""
    own = (program, os.path.join(program, "__main__.py"))
    trace = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename not in own:
        trace = trace.tb_next
    return "".join(traceback.format_exception(type(error), error, trace or error.__traceback__))


if __name__ == "__main__":
    main()
