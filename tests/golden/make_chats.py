"""Records prompts that transformers renders from chat templates (`reference` extra; torch is not needed).

    python tests/golden/make_chats.py [FOLDER]

writes chats.json beside the templates of a folder, by default those of the tests. A template that refuses a
conversation has null for it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jinja2
import transformers
from conversations import CONVERSATIONS
from transformers.utils.chat_template_utils import render_jinja_template

TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
FOLDER = Path(__file__).parent / "chats"


def render(template: str, name: str) -> str | None:
    conversation = CONVERSATIONS[name]
    continues = conversation.get("continue_final_message", False)
    try:
        (text,), _ = render_jinja_template(
            [conversation["messages"]],
            tools=conversation.get("tools"),
            chat_template=template,
            continue_final_message=continues,
            add_generation_prompt=not continues,
            **TOKENS,
        )
    except jinja2.TemplateError:
        return None
    return str(text)


def main(folder: Path = FOLDER) -> None:
    templates = {path.stem: path.read_text(encoding="utf-8") for path in sorted(folder.glob("*.jinja"))}
    prompts = {stem: {name: render(text, name) for name in CONVERSATIONS} for stem, text in templates.items()}
    recorded = {"transformers": transformers.__version__, "tokens": TOKENS, "prompts": prompts}
    text = json.dumps(recorded, ensure_ascii=False, indent=1) + "\n"
    (folder / "chats.json").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
