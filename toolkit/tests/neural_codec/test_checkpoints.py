import collections
import pathlib

import pytest
import torch
from lossylens.codec import Level
from lossylens.errors import ConfigError, RequirementError
from lossylens.spec import FileSource, Missing
from lossylens_toolkit.cache_folder import CACHE_VARIABLE
from lossylens_toolkit.neural_codec.checkpoints import (
    METADATA,
    load_parameters,
    modern_names,
    read_checkpoint,
)
from lossylens_toolkit.neural_codec.neural_options import (
    NeuralCodecOptions,
    checkpoint_folder,
    find_checkpoint,
    lambda_level,
    missing_checkpoints,
)
from safetensors.torch import save_file
from tiny import TinyNetwork, tiny_state, write_tiny

LEVEL = Level("lambda0.004", {"lambda": 0.004})


def equal(network, state):
    own = dict(network.named_parameters())
    return own.keys() == state.keys() and all(torch.equal(own[name], state[name]) for name in own)


class TestReading:
    @pytest.mark.parametrize("wrapper", [None, "state_dict", "network", "model"])
    @pytest.mark.parametrize("prefix", ["", "module."])
    def test_layouts(self, tmp_path, wrapper, prefix):
        state = {prefix + name: value for name, value in tiny_state().items()}
        extras = {"epoch": 3, "optimizer": {"state": {}, "param_groups": [{"lr": 1e-4}]}}
        content = {wrapper: state, **extras} if wrapper else collections.OrderedDict(state)
        torch.save(content, tmp_path / "a.pth.tar")
        network = TinyNetwork()
        load_parameters(network, read_checkpoint(tmp_path / "a.pth.tar").state)
        assert equal(network, tiny_state())

    def test_own_files_say_what_they_are(self, tmp_path):
        write_tiny(tmp_path / "a.safetensors", 1, {"codec": "tiny", "config": {"width": 6}})
        found = read_checkpoint(tmp_path / "a.safetensors")
        assert found.about == {"codec": "tiny", "config": {"width": 6}}
        network = TinyNetwork()
        load_parameters(network, found.state)
        assert equal(network, tiny_state(1))

    def test_nothing_is_unpickled(self, tmp_path):
        path = tmp_path / "evil.pth"
        torch.save({"state_dict": tiny_state(), "scheduler": pathlib.PurePosixPath("x")}, path)
        with pytest.raises(ConfigError, match="not loaded for safety"):
            read_checkpoint(path)

    @pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
    @pytest.mark.parametrize(
        "content",
        [b"", b"no checkpoint at all", b"PK\x03\x04broken", b"\n<html>", b'{"error": 1}'],
    )
    def test_other_files(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ConfigError, match=name) as caught:
            read_checkpoint(tmp_path / name)
        assert "\n" not in str(caught.value)

    def test_malformed_metadata(self, tmp_path):
        save_file(tiny_state(), tmp_path / "a.safetensors", {METADATA: "[1"})
        with pytest.raises(ConfigError, match=r"a\.safetensors: its metadata is malformed"):
            read_checkpoint(tmp_path / "a.safetensors")

    @pytest.mark.parametrize("content", [[1, 2], {"state_dict": {}}, {"epoch": 3}])
    def test_files_without_parameters(self, tmp_path, content):
        torch.save(content, tmp_path / "a.pth")
        with pytest.raises(ConfigError, match="holds no"):
            read_checkpoint(tmp_path / "a.pth")

    def test_old_names_of_the_bottleneck(self):
        old = ("_matrix0", "_bias4", "_factor3")
        new = ("matrices.0", "biases.4", "factors.3")
        for before, after in zip(old, new, strict=True):
            for prefix in ("entropy_bottleneck.", "module.a.entropy_bottleneck."):
                (found,) = modern_names({prefix + before: torch.zeros(1)})
                assert found == prefix.removeprefix("module.") + after


class TestLoading:
    def refused(self, state, match, strict=True):
        network = TinyNetwork()
        before = {name: value.clone() for name, value in network.named_parameters()}
        with pytest.raises(ConfigError, match=match) as caught:
            load_parameters(network, state, strict=strict)
        assert equal(network, before)
        assert "nothing was loaded" in str(caught.value)

    def test_differences_are_named(self):
        state = tiny_state()
        state.pop("h_a.bias")
        self.refused(state, r"1 absent \(h_a\.bias\)")
        state = {**tiny_state(), **{f"extra.{i}": torch.zeros(1) for i in range(5)}}
        self.refused(state, r"5 unknown \(extra\.0, extra\.1, extra\.2, \.\.\.\)")

    @pytest.mark.parametrize("strict", [True, False])
    def test_another_width(self, strict):
        self.refused(
            tiny_state(width=8), r"of another shape \(g_a\.2\.weight 8x8x4x4 instead", strict
        )

    def test_parts_where_that_is_meant(self):
        network = TinyNetwork()
        part = {"h_a.bias": torch.ones(4), "unknown": torch.ones(1)}
        load_parameters(network, part, strict=False)
        assert torch.equal(network.h_a.bias, torch.ones(4))

    def test_tables_in_the_file_are_ignored_and_computed_anew(self):
        network, state = TinyNetwork(), tiny_state()
        before = network.tables.checksum
        state["entropy_bottleneck.biases.0"] = state["entropy_bottleneck.biases.0"] + 1
        stale = {"_quantized_cdf": (4, 9), "_offset": (4,), "_cdf_length": (4,)}
        for name, shape in stale.items():
            state[f"entropy_bottleneck.{name}"] = torch.zeros(shape, dtype=torch.int32)
        state["gaussian_conditional.scale_table"] = torch.zeros(64)
        load_parameters(network, state)
        assert network.tables.checksum != before


class TestFinding:
    def test_by_name(self, tmp_path):
        (tmp_path / "lambda0.004.pth.tar").touch()
        (tmp_path / "lambda0.0045.pth.tar").touch()
        assert find_checkpoint(tmp_path, LEVEL).name == "lambda0.004.pth.tar"

    def test_as_published(self, tmp_path):
        (tmp_path / "ELIC_0004_ft_1.pth.tar").touch()
        found = find_checkpoint(tmp_path, LEVEL, lambda level: ["ELIC_0004_*"])
        assert found.name == "ELIC_0004_ft_1.pth.tar"

    def test_nothing_there(self, tmp_path):
        for folder in (tmp_path, tmp_path / "none"):
            with pytest.raises(RequirementError, match=r"Put it there as lambda0\.004\.pth\.tar"):
                find_checkpoint(folder, LEVEL)

    def test_several(self, tmp_path):
        for name in ("lambda0.004.pt", "lambda0.004.pth"):
            (tmp_path / name).touch()
        with pytest.raises(
            RequirementError, match=r"several .*lambda0\.004\.pt, lambda0\.004\.pth"
        ):
            find_checkpoint(tmp_path, LEVEL)

    def test_requirement(self, tmp_path, monkeypatch):
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
        options = NeuralCodecOptions()
        folder = tmp_path / "checkpoints" / "tiny"
        assert checkpoint_folder("tiny", "", options) == folder
        (lacking,) = missing_checkpoints("tiny", "", options, [LEVEL], "example.org")
        assert lacking == Missing(
            "checkpoints of tiny",
            f"get them from example.org; put them into {folder} as lambda0.004.pth.tar",
            FileSource("example.org"),
        )
        (lacking,) = missing_checkpoints(
            "tiny", "", options, [LEVEL], "example.org", gigabytes=1.4328
        )
        assert lacking.source == FileSource("example.org", gigabytes=1.4328)
        assert lacking.remedy.startswith("get them from example.org (about 1.4 GB); put them into")
        folder.mkdir(parents=True)
        (folder / "anything.pt").touch()
        assert not missing_checkpoints("tiny", "", options, [LEVEL], "example.org")


@pytest.mark.parametrize(
    "wrong",
    [
        {"device": "tpu"},
        {"dtype": "int8"},
        {"entropy_dtype": "float16"},
        {"batch_images": 0},
        {"max_pixels": 0},
    ],
)
def test_options_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        NeuralCodecOptions(**wrong)


@pytest.mark.parametrize(
    ("name", "value"), [("lambda0.004", 0.004), ("Lambda0.0010", 0.001), (" lambda2.4", 2.4)]
)
def test_lambda_levels(name, value):
    assert lambda_level(name) == Level(name.strip().lower(), {"lambda": value})


@pytest.mark.parametrize("name", ["lambda", "lambda0", "lambda0.0", "0.004", "lambda-1", "lambda٣"])
def test_other_names(name):
    assert lambda_level(name) is None
