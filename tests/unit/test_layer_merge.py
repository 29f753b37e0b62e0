"""One layer of several: what engines seldom write, and what must not be made of it."""

import io
import tarfile
from collections.abc import Sequence

import pytest

from service.adapters.docker_layers import ENCODING, ERRORS, empty_tree, lay, read_layer
from service.adapters.docker_merge import LayerMerge
from service.errors import EngineRefused, EngineUnavailable

ODD_NAME = b"d/odd-\xff".decode(ENCODING, ERRORS)


def layer(*names: str, links: Sequence[tuple[str, str]] = ()) -> bytes:
    """A layer's tar: directories (with a slash at the end), files, and hard links."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", encoding=ENCODING, errors=ERRORS) as tar:
        for name in names:
            entry = tarfile.TarInfo(name.rstrip("/"))
            entry.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            tar.addfile(entry)
        for name, first in links:
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.LNKTYPE, first
            tar.addfile(entry)
    return buffer.getvalue()


def go_on() -> None:
    """Nobody gives up."""


def merged(base: Sequence[bytes], own: Sequence[bytes]) -> list[str]:
    """The names in the layer that `own` become, in its order."""
    below, upper = empty_tree(), empty_tree()
    for tree, layers in ((below, base), (upper, own)):
        for number, content in enumerate(layers):
            lay(tree, read_layer(io.BytesIO(content)), number)
    out = io.BytesIO()
    LayerMerge([io.BytesIO(content) for content in own], out, go_on).write(upper, below)
    out.seek(0)
    with tarfile.open(fileobj=out, encoding=ENCODING, errors=ERRORS) as tar:
        return tar.getnames()


def test_a_directory_in_place_of_a_file_hides_what_was_there_before() -> None:
    base = layer("d/", "d/of-base")
    own = layer("d"), layer("d/", "d/new")
    assert merged([base], own) == ["d", "d/.wh..wh..opq", "d/new"]
    assert merged([layer("other")], own) == ["d", "d/new"]


def test_a_deletion_is_taken_over_where_the_base_shows_the_path() -> None:
    own = layer("d/", "d/x"), layer("d/", "d/.wh.x")
    assert merged([layer("d/", "d/x")], own) == ["d", "d/.wh.x"]
    assert merged([layer("d/")], own) == ["d"]
    # Made by a layer of the base, and deleted by another one.
    assert merged([layer("d/", "d/x"), layer("d/", "d/.wh.x")], own) == ["d"]
    assert merged([layer("d/", "d/x"), layer(".wh.d")], own) == ["d"]


def test_a_mark_speaks_of_the_layers_below_wherever_it_stands() -> None:
    base = layer("d/", "d/x", "d/y")
    assert merged([base], [layer("d/", "d/x", "d/.wh.x")]) == ["d", "d/x"]
    own = layer("d/", "d/x", "d/.wh..wh..opq")
    assert merged([base], [own]) == ["d", "d/.wh..wh..opq", "d/x"]


def test_names_that_are_no_text() -> None:
    deletion = ODD_NAME.replace("d/", "d/.wh.")
    base = layer("d/", ODD_NAME)
    assert merged([base], [layer("d/", deletion)]) == ["d", deletion]


def test_a_hard_link_to_another_layer_is_refused() -> None:
    own = layer("first"), layer(links=[("second", "first")])
    with pytest.raises(EngineRefused, match="/second is a hard link"):
        merged([], own)


def test_whoever_gives_up_is_heard() -> None:
    def give_up() -> None:
        raise EngineUnavailable("given up")

    content = layer("a")
    upper = empty_tree()
    lay(upper, read_layer(io.BytesIO(content)), 0)
    merge = LayerMerge([io.BytesIO(content)], io.BytesIO(), give_up)
    with pytest.raises(EngineUnavailable):
        merge.write(upper, empty_tree())
