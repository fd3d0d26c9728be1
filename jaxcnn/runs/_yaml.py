"""YAML as settings need it: plain values, each name once, and nothing that stands for more than is
written there.

>>> read_yaml("epochs: 3\\naugment: [crop, flip]")
{'epochs': 3, 'augment': ['crop', 'flip']}
>>> read_yaml("epochs: 30\\nseed: 1\\nepochs: 3")
Traceback (most recent call last):
ValueError: `epochs` is there twice, in lines 1 and 3
>>> read_yaml("a: &a [x, x]\\nb: [*a, *a]")
Traceback (most recent call last):
ValueError: line 2: *a stands for what is written elsewhere; write it out
"""

from typing import Any

import yaml

from jaxcnn._io.files import LARGEST_INTEGER


def read_yaml(text: str) -> Any:
    """What ``text`` holds. Any exception where it cannot be read, as PyYAML's constructors raise
    any."""
    return yaml.load(text, _Loader)


class _Loader(yaml.SafeLoader):
    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise ValueError(
                f"line {event.start_mark.line + 1}: *{event.anchor:.60} stands for what is written"
                " elsewhere; write it out"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        lines: dict[Any, int] = {}
        for name, _ in node.value:
            key, line = (name.tag, str(name.value)), name.start_mark.line + 1
            if key in lines:
                raise ValueError(f"`{key[1]:.60}` is there twice, in lines {lines[key]} and {line}")
            lines[key] = line
        return super().construct_mapping(node, deep=deep)

    def construct_yaml_int(self, node: Any) -> int:
        found = super().construct_yaml_int(node)
        if abs(found) >= LARGEST_INTEGER:
            raise ValueError(
                f"line {node.start_mark.line + 1}: an integer beyond what 64 bits can hold"
            )
        return found

    def flatten_mapping(self, node: Any) -> None:
        """No merging: ``<<`` is a name that no setting has."""


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
_Loader.add_constructor("tag:yaml.org,2002:merge", _Loader.construct_yaml_str)
