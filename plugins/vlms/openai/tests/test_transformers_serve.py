"""A real server, ``transformers serve``, with ``nano`` behind it.

It answers what the same weights answer in transformers, asked with the same chat template.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from lossylens.registry.plugins import load_registry
from lossylens.testing.pictures import picture
from lossylens.testing.vlm_conformance import QUESTIONS, VlmConformance
from lossylens.vlm import default_prompt
from lossylens_toolkit.transformers_vlm.vlm_testing import about
from lossylens_vlm_nano.vlm import BUNDLED

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(find_spec, ("fastapi", "uvicorn", "openai"))),
        reason="needs the server: pip install 'transformers[serving]'",
    ),
]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the server, which can download nothing."""
    port = free_port()
    log = tmp_path_factory.mktemp("server") / "log"
    place = ("--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32")
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", str(BUNDLED)]
    with log.open("w") as stream:
        server = subprocess.Popen(
            [*command, *place],
            stdout=stream,
            stderr=stream,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )
    address = f"http://127.0.0.1:{port}"
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        for _ in range(1200):
            assert server.poll() is None, log.read_text()
            try:
                with opener.open(f"{address}/health", timeout=5):
                    break
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        else:
            pytest.fail(f"the server does not answer: {log.read_text()}")
        yield f"{address}/v1"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="module", autouse=True)
def _no_proxy() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NO_PROXY", "127.0.0.1")
        patch.delenv("OPENAI_API_KEY", raising=False)
        yield


class TestConformance(VlmConformance):
    """Through the server: order, batches, several images, questions that are too long."""

    vlms = ("openai",)
    # The server refuses none, however long it computes.
    long = 300

    @pytest.fixture(scope="class")
    @classmethod
    def plugin_options(cls, url: str) -> Mapping[str, Any]:
        # One question at a time: a CPU computes no faster for being asked twice.
        patience = {"concurrency": 1, "timeout": 300.0, "tries": 2, "pause": 0.1}
        return {"url": url, "model": str(BUNDLED), **patience}


def test_it_says_what_transformers_says(url: str) -> None:
    """The picture reaches the model without loss, and the question word by word."""
    from transformers import AutoModelForImageTextToText, AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    image = picture(150, 224, 3)
    options = {"url": url, "model": str(BUNDLED), "timeout": 300.0, "concurrency": 1}
    vlm = load_registry().build_vlm("openai", options)
    [answers] = vlm.answer([about(image, *QUESTIONS)])
    model = AutoModelForImageTextToText.from_pretrained(BUNDLED, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED)
    inputs = Qwen2VLImageProcessorPil.from_pretrained(BUNDLED)(images=[image], return_tensors="pt")
    visual = "<|image_pad|>" * (int(inputs["image_grid_thw"][0].prod()) // 4)
    for question, answer in zip(QUESTIONS, answers, strict=True):
        content = [{"type": "image"}, {"type": "text", "text": default_prompt(question)}]
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
        ).replace("<|image_pad|>", visual)
        ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            max_new_tokens=question.max_new_tokens,
            do_sample=False,
            **inputs,
        )
        [text] = tokenizer.batch_decode(written[:, ids.shape[1] :], skip_special_tokens=True)
        assert answer.text == text
        assert answer.usage["input_tokens"] == ids.shape[1]
