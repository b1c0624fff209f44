"""Record the cassettes anew: `make cassettes` (from the hosted service, with LUNAR_API_KEY).

`--sandbox` records from the sandbox instead, whose routes the vendor's engine decides.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING

import httpx
from tape import CALLS, FOLDER, tape

from lunar_core import APIStatusError, Lunar, LunarError
from lunar_core.sandbox import SandboxError, run

if TYPE_CHECKING:
    from collections.abc import Iterator


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sandbox", action="store_true", help="without a key and without a bill")
    parser.add_argument("names", nargs="*", choices=[[], *CALLS], help="only these")
    options = parser.parse_args()
    with client(sandbox=options.sandbox) as lunar:
        for name in options.names or CALLS:
            (FOLDER / f"{name}.yaml").unlink(missing_ok=True)
            with tape(name, recording=True):
                try:
                    outcome = type(CALLS[name](lunar)).__name__
                except APIStatusError as error:  # That is an answer, too.
                    outcome = f"{type(error).__name__}: {error}"
                except LunarError as error:
                    sys.exit(f"{name}: {error}")
            sys.stdout.write(f"{name:26} {outcome}\n")


@contextlib.contextmanager
def client(*, sandbox: bool) -> Iterator[Lunar]:
    """A client that the recorder can listen to: it hears httpx's own clients, not our connections."""
    if not sandbox and not os.environ.get("LUNAR_API_KEY"):
        sys.exit(
            "Recording from the hosted service costs money: set LUNAR_API_KEY, or add --sandbox."
        )
    with contextlib.ExitStack() as open_things:
        http_client = open_things.enter_context(httpx.Client())
        if not sandbox:
            yield open_things.enter_context(Lunar(http_client=http_client))
            return
        try:
            server = open_things.enter_context(run(router="engine"))
        except SandboxError as error:
            sys.exit(str(error))
        sys.stdout.write(f"From the sandbox, its routes by opentracy {server.engine_version}.\n")
        yield open_things.enter_context(
            Lunar(server.api_key, base_url=server.url, http_client=http_client)
        )


if __name__ == "__main__":
    main()
