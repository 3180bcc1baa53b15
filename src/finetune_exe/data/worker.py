"""A process that encodes shards: jobs come in on stdin, a JSON line each, and a line goes out when one is done."""

from __future__ import annotations

import gc
import json
import sys

from finetune_exe.data.shards import work_through
from finetune_exe.errors import FineTuneError


def main() -> None:
    """Encode what stdin names until it ends."""
    gc.disable()  # the garbage of a shard is collected when it is done
    gc.freeze()

    def tell(address: str) -> None:
        gc.collect()
        gc.freeze()  # what is left stays, and is not looked through again
        print(json.dumps({"done": address}), flush=True)

    try:
        work_through(sys.stdin, tell)
    except FineTuneError as fault:
        told = {"code": fault.code, "what": fault.what, "where": fault.where, "why": fault.why, "fix": fault.fix}
        print(json.dumps({"fault": told}), flush=True)


if __name__ == "__main__":
    main()
