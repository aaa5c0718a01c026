"""What every vision encoder must do, as tests that each family's tests run."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from lossylens.errors import ConfigError
from PIL import Image
from torch import Tensor

from lossylens_toolkit.transformers_vlm.tower import TiledTower, VisionTower
from lossylens_toolkit.transformers_vlm.vision_inputs import Layout, VisualTokens
from lossylens_toolkit.transformers_vlm.vlm_testing import blocks

#: Images whose sizes, and with them windows or tiles, differ.
IMAGES = (blocks(80, 60, 1), blocks(200, 150, 2), blocks(60, 190, 3), blocks(80, 60, 4))


def random_conditions(
    tower: VisionTower, layouts: Sequence[Layout], size: float, seed: int = 0
) -> dict[str, Any]:
    """Return every condition that *tower* takes and that acts, normal with deviation *size*.

    Gradients are kept in them.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return (size * torch.randn(shape, generator=generator)).requires_grad_()

    images = len(layouts)
    conditions: dict[str, Any] = {
        "embedding": normal(images, tower.width),
        "film": normal(images, tower.layers, 2, 2, tower.width),
        "states": [normal(each.tiles, each.tokens, tower.width) for each in layouts],
    }
    if tower.angles:
        conditions["query"] = normal(images, tower.layers, tower.angles)
    return conditions


def one_of(conditions: Mapping[str, Any], image: int) -> dict[str, Any]:
    """Return *conditions* of one image alone."""
    return {name: each[image : image + 1] for name, each in conditions.items()}


def leaves(conditions: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors in *conditions*."""
    return [
        tensor
        for each in conditions.values()
        for tensor in (each if isinstance(each, list) else [each])
    ]


def loss(encoded: Sequence[VisualTokens]) -> Tensor:
    """Return a number that depends on all features."""
    return torch.cat([each.features for each in encoded]).square().mean()


def close(actual: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    """Assert that two tensors agree, relative to the largest value."""
    assert actual.shape == expected.shape
    assert (actual - expected).abs().max() <= tolerance * expected.abs().max()


def turned(vectors: Tensor, angles: Tensor) -> Tensor:
    """Return *vectors* ``(..., 2 * n)``, whose halves make up pairs, turned by ``(n,)`` angles."""
    first, second = vectors.chunk(2, -1)
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), -1)


class TowerTests:
    """The tests; a class derived from it has a fixture ``tower``."""

    def test_conditions_of_zeros_change_no_bit(self, tower: VisionTower) -> None:
        """Where training begins; in fp32 and in bf16."""
        half = tower.clone()
        for module in (half.module, *half.projectors.values()):
            module.to(torch.bfloat16)
        pictures = tower.prepare(IMAGES)
        zeros = random_conditions(tower, [each.layout for each in pictures], 0)
        for encoder in (tower, half):
            with torch.inference_mode():
                plain = encoder.encode(pictures)
                states = encoder.hidden_states(pictures, [1, tower.layers])
                alone = [{name: each} for name, each in zeros.items()]
                for conditions in (zeros, *alone):
                    for before, after in zip(
                        plain, encoder.encode(pictures, **conditions), strict=True
                    ):
                        assert torch.equal(before.features, after.features)
                    found = encoder.hidden_states(pictures, [1, tower.layers], **conditions)
                    for layer, of_images in states.items():
                        assert all(map(torch.equal, of_images, found[layer]))

    def test_film_modulates_both_norms_of_every_layer(self, tower: VisionTower) -> None:
        """Against hooks on the norms, which for one image need no order of tokens."""
        picture = tower.prepare(IMAGES[1:2])
        film = 0.3 * torch.randn(
            1, tower.layers, 2, 2, tower.width, generator=torch.Generator().manual_seed(1)
        )
        twin = tower.clone()
        for number in range(tower.layers):
            for which, norm in enumerate(twin.norms(number)):
                gain, bias = film[0, number, which]
                norm.register_forward_hook(
                    lambda _, __, out, gain=gain, bias=bias: out * (1 + gain) + bias
                )
        with torch.no_grad():
            [expected], [found] = twin.encode(picture), tower.encode(picture, film=film)
            [plain] = tower.encode(picture)
        close(found.features, expected.features)
        assert (found.features - plain.features).abs().max() > 0.01 * plain.features.abs().max()

    def test_conditions_keep_to_their_images(self, tower: VisionTower) -> None:
        """Images of different sizes in one batch are as one by one."""
        pictures = tower.prepare(IMAGES)
        conditions = random_conditions(tower, [each.layout for each in pictures], 0.3)
        with torch.inference_mode():
            together = tower.encode(pictures, **conditions)
            states = tower.hidden_states(pictures, [0, 2], **conditions)
            for number, picture in enumerate(pictures):
                own = one_of(conditions, number)
                [alone] = tower.encode([picture], **own)
                close(together[number].features, alone.features)
                for layer, [expected] in tower.hidden_states([picture], [0, 2], **own).items():
                    close(states[layer][number], expected)
                [plain] = tower.encode([picture])
                change = (alone.features - plain.features).abs().max()
                assert change > 0.01 * plain.features.abs().max()

    def test_states_are_added_to_the_input_of_the_first_layer(self, tower: VisionTower) -> None:
        """Which entering there shows."""
        pictures = tower.prepare(IMAGES)
        layouts = [each.layout for each in pictures]
        states = random_conditions(tower, layouts, 0.3)["states"]
        with torch.inference_mode():
            first = tower.hidden_states(pictures, [0])[0]
            moved = [one + other for one, other in zip(first, states, strict=True)]
            expected = tower.enter(0, moved, layouts)
            found = tower.encode(pictures, states=states)
        for one, other in zip(found, expected, strict=True):
            close(one.features, other.features)

    def test_every_condition_and_weight_has_a_gradient(self, tower: VisionTower) -> None:
        """Under autocast to bf16 too, which is how large encoders are trained."""
        twin = tower.clone()
        pictures = twin.prepare(IMAGES[:3])
        for half in (False, True):
            conditions = random_conditions(twin, [each.layout for each in pictures], 0.1)
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss(twin.encode(pictures, **conditions)).backward()
            for leaf in leaves(conditions):
                assert leaf.grad is not None
                assert leaf.grad.isfinite().all()
                assert leaf.grad.abs().amax() > 0
            assert (conditions["film"].grad.abs().amax(-1) > 0).all()
            for name, parameter in twin.parameters().items():
                assert (parameter.grad is None) == (name in twin.unused)
                assert parameter.requires_grad == (name not in twin.unused)

    def test_checkpointing_computes_again_and_gives_equal_gradients(
        self, tower: VisionTower
    ) -> None:
        """Of weights and conditions, when encoding and when entering."""
        gradients, calls = [], []
        for checkpointing in (False, True):
            twin, counted = tower.clone(), [0]
            pictures = twin.prepare(IMAGES[:3])
            layouts = [each.layout for each in pictures]
            conditions = random_conditions(twin, layouts, 0.1)

            def count(*_: Any, counted: list[int] = counted) -> None:
                counted[0] += 1

            twin.norms(1)[1].register_forward_hook(count)
            loss(twin.encode(pictures, **conditions, checkpointing=checkpointing)).backward()
            given = random_conditions(twin, layouts, 0.5, seed=1)["states"]
            loss(twin.enter(1, given, layouts, checkpointing=checkpointing)).backward()
            found = twin.hidden_states_from(0, given, layouts, [2], checkpointing=checkpointing)
            torch.cat([each.flatten() for each in found[2]]).square().mean().backward()
            trained = [each for each in twin.parameters().values() if each.requires_grad]
            gradients.append([each.grad for each in (*trained, *leaves(conditions), *given)])
            calls.append(counted[0])
        assert calls == [3, 6]
        for kept, computed in zip(*gradients, strict=True):
            assert kept is not None
            close(computed, kept, 1e-6)

    def test_gradients_after_inference(self, tower: VisionTower) -> None:
        """What is remembered of a batch from a run serves for training too."""
        # A size that no other test has.
        pictures = tower.prepare([blocks(93, 71, 5), IMAGES[0]])
        with torch.inference_mode():
            expected = tower.encode(pictures)
        conditions = random_conditions(tower, [each.layout for each in pictures], 0)
        encoded = tower.encode(pictures, **conditions)
        loss(encoded).backward()
        for one, other in zip(encoded, expected, strict=True):
            assert torch.equal(one.features, other.features)

    def test_with_and_without_conditions_at_the_same_time(self, tower: VisionTower) -> None:
        """A model and an adapted one share the tower."""
        pictures = tower.prepare(IMAGES[:2])
        conditions = random_conditions(tower, [each.layout for each in pictures], 0.3)
        ways: list[dict[str, Any]] = [{}, conditions]
        with torch.inference_mode():
            expected = [tower.encode(pictures, **way) for way in ways]
        wrong: list[int] = []

        def repeat(number: int) -> None:
            with torch.inference_mode():
                for _ in range(8):
                    found = tower.encode(pictures, **ways[number])
                    for one, other in zip(found, expected[number], strict=True):
                        if not torch.equal(one.features, other.features):
                            wrong.append(number)

        threads = [threading.Thread(target=repeat, args=(number,)) for number in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        for module in (tower.module, *tower.projectors.values()):
            for part in module.modules():
                assert not part._forward_hooks
                assert not part._forward_pre_hooks

    def test_shapes_of_conditions_are_checked(self, tower: VisionTower) -> None:
        """By name."""
        pictures = tower.prepare(IMAGES[:2])
        wrong = {
            "embedding": torch.zeros(1, tower.width),
            "film": torch.zeros(2, tower.layers, 2, tower.width),
            "states": [torch.zeros(1, 1, tower.width)] * 2,
        }
        if tower.angles:
            wrong["angles"] = torch.zeros(2, tower.width)
            wrong["query"] = torch.zeros(2, tower.layers + 1, tower.angles)
        for name, condition in wrong.items():
            shown = "hidden states of image 0 are" if name == "states" else f"{name} is"
            given: dict[str, Any] = {name: condition}
            with pytest.raises(ConfigError, match=shown):
                tower.encode(pictures, **given)

    def test_query_turns_queries_alone(self, tower: VisionTower) -> None:
        """Against hooks on the joint projection; refused where positions are learned."""
        pictures = tower.prepare(IMAGES[1:2])
        if not tower.angles:
            for name in ("query", "angles"):
                given: dict[str, Any] = {name: torch.zeros(1, 4)}
                with pytest.raises(ConfigError, match="learned positions and no rotary angles"):
                    tower.encode(pictures, **given)
            return
        angles = torch.randn(
            1, tower.layers, tower.angles, generator=torch.Generator().manual_seed(2)
        )
        twin = tower.clone()
        for number in range(tower.layers):

            def turn(_: Any, __: Any, out: Tensor, phi: Tensor = angles[0, number]) -> Tensor:
                query, rest = out.tensor_split([tower.width], -1)
                by_head = query.unflatten(-1, (-1, 2 * tower.angles))
                return torch.cat((turned(by_head, phi).flatten(-2), rest), -1)

            module: Any = twin.module
            module.blocks[number].attn.qkv.register_forward_hook(turn)
        with torch.no_grad():
            [expected], [found] = twin.encode(pictures), tower.encode(pictures, query=angles)
            [plain] = tower.encode(pictures)
            close(found.features, expected.features)
            assert (found.features - plain.features).abs().max() > 0.1 * plain.features.std()
            [shared] = tower.encode(pictures, query=angles[:, 0])
            [repeated] = tower.encode(pictures, query=angles[:, :1].expand_as(angles))
        assert torch.equal(shared.features, repeated.features)

    def test_a_clone_is_ones_own(self, tower: VisionTower) -> None:
        """It begins equal; what is done to it does not reach the original."""
        pictures = tower.prepare(IMAGES)
        with torch.no_grad():
            before = tower.encode(pictures)
        twin = tower.clone()
        held = {id(each) for each in tower.parameters().values()}
        assert not held & {id(each) for each in twin.parameters().values()}
        assert {each.dtype for each in twin.parameters().values()} == {torch.float32}
        for one, other in zip(twin.encode(pictures), before, strict=True):
            assert torch.equal(one.features, other.features)
        optimizer = torch.optim.SGD(twin.trainable.parameters(), 0.1)
        loss(twin.trainable(pictures)).backward()
        optimizer.step()
        moved = twin.encode(pictures)
        for one, other in zip(tower.encode(pictures), before, strict=True):
            assert torch.equal(one.features, other.features)
        assert all(each.grad is None for each in tower.parameters().values())
        assert not torch.equal(moved[0].features, before[0].features)
        again = twin.clone()
        assert all(each.grad is None for each in again.parameters().values())
        assert torch.equal(again.encode(pictures)[0].features, moved[0].features)

    def test_the_trainable_module_has_the_parameters(self, tower: VisionTower) -> None:
        """All of them, and encodes."""
        twin = tower.clone()
        registered = {id(each) for each in twin.trainable.parameters()}
        assert registered == {id(each) for each in twin.parameters().values()}
        pictures = twin.prepare(IMAGES[:2])
        conditions = random_conditions(twin, [each.layout for each in pictures], 0.1)
        found = twin.trainable(pictures, **conditions, checkpointing=True)
        for one, other in zip(found, twin.encode(pictures, **conditions), strict=True):
            assert torch.equal(one.features, other.features)

    def test_weights_are_loaded_by_name(self, tower: VisionTower) -> None:
        """All of them or none."""
        twin, other = tower.clone(), tower.clone()
        with torch.no_grad():
            for parameter in twin.parameters().values():
                parameter.mul_(1.1)
        state = {name: each.detach().half() for name, each in twin.parameters().items()}
        other.load(state)
        for name, parameter in other.parameters().items():
            assert parameter.dtype == torch.float32
            assert torch.equal(parameter, state[name].float())
        with pytest.raises(ConfigError, match="clone"):
            tower.load(state)
        names = sorted(state)
        lacking = {name: state[name] for name in names[4:]}
        lacking["nonsense"] = state[names[0]]
        lacking[names[4]] = torch.zeros(3, 3, 3)
        lacking[names[5]] = torch.zeros(state[names[5]].shape, dtype=torch.int8)
        before = {name: each.clone() for name, each in other.parameters().items()}
        with pytest.raises(ConfigError) as caught:
            other.load(lacking)
        message = str(caught.value)
        assert f"lack {', '.join(names[:3])} and 1 more" in message
        assert "nonsense" in message
        assert names[4] in message
        assert names[5] in message
        for name, parameter in other.parameters().items():
            assert torch.equal(parameter, before[name])

    def test_what_cannot_be_cloned(self, tower: VisionTower) -> None:
        """Weights that are quantised, or on more than one device."""
        twin = tower.clone()
        layer: Any = twin.norms(0)[0]
        held = layer.weight
        layer.weight = torch.nn.Parameter(held.detach().to(torch.int8), requires_grad=False)
        with pytest.raises(ConfigError, match=r"quantised.*quantization: none"):
            twin.clone()
        layer.weight = torch.nn.Parameter(held.detach().to("meta"))
        with pytest.raises(ConfigError, match="spread over cpu and meta"):
            twin.clone()

    def test_hidden_states_after_entering(self, tower: VisionTower) -> None:
        """They are those of the way from the pictures."""
        pictures = tower.prepare(IMAGES)
        layouts = [each.layout for each in pictures]
        with torch.inference_mode():
            states = tower.hidden_states(pictures, range(tower.layers + 1))
            for first in (0, 1, tower.layers):
                wanted = range(first, tower.layers + 1)
                found = tower.hidden_states_from(first, states[first], layouts, wanted)
                assert list(found) == list(wanted)
                for layer in wanted:
                    for one, other in zip(found[layer], states[layer], strict=True):
                        close(one, other)
        with pytest.raises(ConfigError, match="layer 0 precedes 1"):
            tower.hidden_states_from(1, states[1], layouts, [0, 2])
        for layers in ([-1], [tower.layers + 1]):
            with pytest.raises(ConfigError, match="has no layer"):
                tower.hidden_states(pictures, layers)
        with pytest.raises(ConfigError, match="has no layer"):
            tower.attention(pictures, [tower.layers])

    def test_grids_of_ones_own(self, tower: VisionTower) -> None:
        """Several grids in one batch are as one by one; what is not taken is refused."""
        sides = (2 * tower.merge, 4 * tower.merge)
        grids = [(1, rows, columns) for rows in sides for columns in sides]
        layouts = [Layout(*grid, tower.extra) for grid in grids]
        taken = [each for each in layouts if not tower.refusal(each)]
        assert len(taken) >= 2
        states = random_conditions(tower, taken, 1)["states"]
        together = tower.enter(1, states, taken)
        hidden = tower.hidden_states_from(1, states, taken, [tower.layers])[tower.layers]
        for number, layout in enumerate(taken):
            [alone] = tower.enter(1, states[number : number + 1], [layout])
            close(together[number].features, alone.features)
            assert together[number].layout is layout
            assert hidden[number].shape == states[number].shape
        refused = [each for each in layouts if tower.refusal(each)]
        refused.append(Layout(1, 4, 4, tower.extra + 1))
        if tower.merge > 1:
            refused.append(Layout(1, 3, 4, tower.extra))
        if not tower.tiled:
            refused.append(Layout(2, 4, 4, tower.extra, (taken[0].rectangles[0],) * 2))
        for layout in refused:
            given = torch.zeros(layout.tiles, layout.tokens, tower.width)
            with pytest.raises(ConfigError, match="image 1 cannot enter"):
                tower.enter(1, [states[0], given], [taken[0], layout])

    def test_layout_and_rectangles(self, tower: VisionTower) -> None:
        """The layout is known from the size; a tile shows what its rectangle says."""
        for width, height in ((80, 60), (37, 150), (301, 99), (64, 64), (97, 13), (150, 100)):
            across = np.linspace(0, 1, width)[None].repeat(height, 0)
            down = np.linspace(0, 1, height)[:, None].repeat(width, 1)
            ramps = np.stack([across, down, 0.5 * np.ones((height, width))], 2)
            image = Image.fromarray((255 * ramps).round().astype(np.uint8))
            [picture] = tower.prepare([image])
            assert picture.layout == tower.layout((width, height))
            if not isinstance(tower, TiledTower):
                continue
            # Where images are cut, into several rows and columns.
            side = picture.pixels.shape[-1]
            [picture] = tower.prepare([image], resolution=6 * side**2)
            # Two flat images tell how values are normalised.
            black, white = (
                tower.prepare([Image.new("RGB", (64, 64), 3 * (value,))])[0].pixels[0, :, 0, 0]
                for value in (0, 255)
            )
            scale = (white - black)[:, None, None]
            values = (picture.pixels - black[:, None, None]) / scale
            for tile, (left, top, right, bottom) in zip(
                values, picture.layout.rectangles, strict=True
            ):
                rows, columns = tile.shape[-2:]
                x = left + (torch.arange(columns) + 0.5) / columns * (right - left)
                y = top + (torch.arange(rows) + 0.5) / rows * (bottom - top)
                # Clear of borders, where scaling and padding blur.
                inside = (x > 0.1) & (x < 0.9), (y > 0.1) & (y < 0.9)
                seen = tile[:, inside[1]][:, :, inside[0]]
                if seen.numel():
                    assert (seen[0] - x[inside[0]]).abs().max() < 0.07
                    assert (seen[1] - y[inside[1]][:, None]).abs().max() < 0.07
                # Padding has one colour, but where scaling blurs it.
                blur, sunk = 2 * (right - left) / columns, 2 * (bottom - top) / rows
                beside, outside = (x < -blur) | (x > 1 + blur), (y < -sunk) | (y > 1 + sunk)
                for padded in (tile[:, :, beside], tile[:, outside]):
                    assert not padded.numel() or padded.flatten(1).std(1).max() < 1e-5
