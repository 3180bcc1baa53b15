"""A process that encodes shards: jobs come in on stdin, a JSON line each, and a line goes out when one is done."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path

from finetune_exe.data.shards import ShardJob, encode_shard
from finetune_exe.errors import FineTuneError
from finetune_exe.text.tokenizer import ChatTokenizer, load_tokenizer


def main() -> None:
    """Encode what stdin names until it ends."""
    gc.disable()  # the garbage of a shard is collected when it is done
    gc.freeze()
    tokenizer: ChatTokenizer | None = None
    try:
        for line in sys.stdin:
            job = ShardJob.from_json(line)
            tokenizer = tokenizer or load_tokenizer(Path(job.model), chat_template=job.chat_template)
            encode_shard(job, tokenizer)
            gc.collect()
            gc.freeze()  # what is left stays, and is not looked through again
            print(json.dumps({"done": job.address}), flush=True)
    except FineTuneError as fault:
        told = {"code": fault.code, "what": fault.what, "where": fault.where, "why": fault.why, "fix": fault.fix}
        print(json.dumps({"fault": told}), flush=True)


if __name__ == "__main__":
    main()
