"""The self-test: tiny segments a small scene that comes with san, and must find what it always has found there."""

import time
from pathlib import Path

from san_cli.doctor.finding import Finding

_SCENE = Path(__file__).with_name("scene.png")  # examples/scenes/scene-049.jpg at 160 pixels, in 48 colours
# Shares of its pixels, measured on a CPU in float32. Other processors round otherwise: that moves borders a little.
_KNOWN = {"sky": 0.4197, "stop sign": 0.2884, "plain wall": 0.2826}
_TOLERANCE = 0.02


def self_test() -> Finding:
    """Segment the scene on the CPU; a fault where something else is found than must be. Raises what loading does."""
    from san_cli.engine.segmenter import Segmenter
    from san_cli.vocabulary.grammar import parse_vocabulary
    from san_cli.weights.find import SHIPPED

    started = time.perf_counter()
    segmenter = Segmenter.load("tiny", SHIPPED / "tiny.safetensors", device="cpu", precision="fp32")
    made = segmenter.segment(_SCENE, parse_vocabulary(["emoji"]))
    seconds = time.perf_counter() - started
    shares = {
        name: round(float((made.label_map == made.vocabulary.index(name)).mean()), 4) for name in _KNOWN
    }
    told = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    wrong = [name for name, share in shares.items() if abs(share - _KNOWN[name]) > _TOLERANCE]
    facts = {"passed": not wrong, "shares": shares, "known": _KNOWN, "seconds": round(seconds, 2)}
    if not wrong:
        return Finding("self-test", f"passed in {seconds:.1f} s: {told}", facts)
    known = ", ".join(f"{name} {share:.1%}" for name, share in _KNOWN.items())
    return Finding(
        "self-test", f"failed: {told}", facts, fault=f"the self-test found {told}, and not {known}",
        hint="PyTorch computes something else here: install it again, and report this with the text above.",
    )  # fmt: skip
