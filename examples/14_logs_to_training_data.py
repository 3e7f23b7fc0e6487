"""From the logs of an agent to training data: import, look at it, promote, correct, export.

The log here is one of MetaGPT's; `docs/curation-files.md` lists what else can be read: caches, traces, transcripts.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from exp_pool import ExpManager
from exp_pool.curation import exporters, importers

LOG = """\
10:00 INFO New experience: {"req": "Write a snake game", "resp": "1. board 2. snake", "tag": "Engineer.plan"}
10:05 INFO something else
10:06 INFO New experience: {"req": "Write a 2048 game", "resp": "I cannot do that.", "tag": "Engineer.plan"}
10:07 INFO New experience: {"req": "Write a chess game", "resp": "1. board 2. pieces", "tag": "Engineer.plan"}
10:08 INFO New experience: {"req": "Write a poem"}
"""


def main() -> None:
    folder = Path(tempfile.mkdtemp())
    (folder / "metagpt.log").write_text(LOG, encoding="utf-8")

    with ExpManager(store=f"sqlite:///{folder}/pool.db", index="none://", embedder="none") as manager:
        pool = manager.sync

        # Everything comes in quarantined: it answers nothing until a person has looked at it.
        report = importers.load(manager, folder / "metagpt.log")
        print(f"{report.stored} of {report.read} imported; left out: {[tuple(each) for each in report.skipped]}")
        print(f"the second time {importers.load(manager, folder / 'metagpt.log').stored} are new")

        for experience in pool.iter_exps({"trust": "quarantined"}):
            pool.update_exp(experience.id, trust="trusted")
            if "cannot" in experience.response:
                pool.annotate(experience.id, expected="1. grid 2. moves 3. merge equal tiles")

        # Now a decorated function of that name is answered by what the other program has logged.
        @manager.exp_cache(name="Engineer.plan")
        def plan(req: str) -> str:
            return f"computed for {req}"

        print(f"the pool answers: {plan('Write a 2048 game')!r}")

        # Chats to train on, in two sides; and pairs in which a person's correction is preferred.
        manifest = exporters.save(manager, folder / "chats", "sft", test_share=0.3)
        print(f"{manifest.rows} chats, {manifest.said}; hashes that are wrong: {exporters.verify(folder / 'chats')}")
        exporters.save(manager, folder / "pairs.jsonl", "dpo")
        pair = json.loads((folder / "pairs.jsonl").read_text(encoding="utf-8"))
        print(f"preferred: {pair['chosen'][0]['content']!r} to {pair['rejected'][0]['content']!r}")

        # And a copy that can be imported again, with ids, annotations and history.
        exporters.save(manager, folder / "copy.jsonl")
        with ExpManager(store="memory://", index="none://", embedder="none") as other:
            print(importers.load(other, folder / "copy.jsonl", trust="trusted").stored, "experiences in another pool")


if __name__ == "__main__":
    main()
