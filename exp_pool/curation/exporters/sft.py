"""Supervised fine-tuning data: one chat in each line, ``{"messages": [...]}``, the last message is the answer.

The form that OpenAI's fine-tuning, TRL's `SFTTrainer` and most others read.
"""

from __future__ import annotations

from exp_pool.curation.exporters.chats import answer_message, prompt_messages
from exp_pool.curation.exporters.output import Output
from exp_pool.curation.exporters.selection import ExportSelection

FOLDER = False
TRAINING = True


def write(selection: ExportSelection, output: Output) -> None:
    """One chat for each experience."""
    for side in selection.sides:
        with output.file(f"{side}.jsonl", side) as file:
            for experience in selection.experiences(side):
                file.line({"messages": [*prompt_messages(experience), answer_message(experience.value)]})
