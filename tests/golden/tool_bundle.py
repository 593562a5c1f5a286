"""A bundle whose chat template has tools, in the way that Qwen and Hermes models were trained in."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from google.protobuf import json_format

from bise_proto.bundle import MANIFEST, describe, read_manifest

_TEMPLATE = """\
{% if tools %}[system
Call a tool with <tool_call>{"name": its name, "arguments": an object}</tool_call>. Tools: {{ tools | tojson }}]
{% endif %}{% for message in messages %}[{{ message.role }}
{{ message.content }}{% for call in message.tool_calls or [] %}<tool_call>{{ call.function | tojson }}</tool_call>\
{% endfor %}]
{% endfor %}{% if add_generation_prompt %}[assistant
{% endif %}"""
_PATH = "tokenizer/chat_template.jinja"


def teach_tools(bundle: Path, folder: Path, opening: str, closing: str) -> Path:
    """Writes a copy of `bundle` to `folder`, whose turns stand between `opening` and `closing`."""
    shutil.copytree(bundle, folder, copy_function=shutil.copy2)
    template = _TEMPLATE.replace("]\n", f"{closing}\n").replace("[system", f"{opening}system")
    for role in ("{{ message.role }}", "assistant"):
        template = template.replace(f"[{role}", f"{opening}{role}")
    (folder / _PATH).write_text(template, encoding="utf-8")
    manifest = read_manifest(folder)
    (entry,) = (file for file in manifest.files if file.path == _PATH)
    entry.CopyFrom(describe(folder, _PATH))
    values = json_format.MessageToDict(manifest, preserving_proto_field_name=True)
    (folder / MANIFEST).write_text(json.dumps(values), encoding="utf-8")
    return folder
