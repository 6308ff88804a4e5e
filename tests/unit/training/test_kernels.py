"""Forward and backward passes written by hand, against finite differences or torch's own gradients."""

from itertools import accumulate, pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

from finery.training.kernels import documents, loss, products
from finery.training.kernels.linear import Adapter, Part, Projection, TrainedLinear, refresh
from finery.training.kernels.memory import keep_freed_memory
from finery.training.kernels.pointwise import RmsNorm, swiglu
from finery.training.kernels.products import Dense, Packed, freeze, has_onednn
from finery.training.kernels.quantized import FourBit


def random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed + sum(shape)), dtype=torch.float64).to(dtype)


def projection(frozen: Dense, *, dropout: float = 0.0, magnitude: bool = False) -> Projection:
    """Two adapted layers of 3 and 5 outputs around a bare one of 4, over 6 inputs."""

    def adapter(rows: slice, rank: int) -> Adapter:
        norms = frozen.dense()[rows].float().norm(dim=1) * 1.1 if magnitude else None
        a, b = random(rank, 6, seed=rank), random(rows.stop - rows.start, rank, seed=rank)
        made = Adapter(a, b, scale=0.5 * rank, dropout=dropout, magnitude_N=norms)
        return made.to(frozen.dtype)

    parts = [Part(0, 3, adapter(slice(0, 3), 2)), Part(3, 7, None), Part(7, 12, adapter(slice(7, 12), 3))]
    made = Projection(frozen, parts)
    refresh([made])
    return made


def plainly(made: Projection, x: Tensor) -> Tensor:
    """The same by torch's own operations."""
    y = x @ made.frozen.dense().t()
    parts = []
    for begin, end in ((0, 3), (3, 7), (7, 12)):
        part = next((p for p in made.parts if p.start == begin), None)
        out = y[:, begin:end]
        if part is not None and part.adapter is not None:
            a, b, magnitude = part.adapter.lora_A, part.adapter.lora_B, part.adapter.magnitude
            out = out + part.adapter.scale * (x @ a.t()) @ b.t()
            if magnitude is not None:
                norm = (made.frozen.dense()[begin:end] + part.adapter.scale * b @ a).norm(dim=1).detach()
                out = out * (magnitude / norm)
        parts.append(out)
    whole = torch.cat(parts, 1)
    return whole if made.frozen.bias_N is None else whole + made.frozen.bias_N


@pytest.mark.parametrize("magnitude", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_adapted_products_have_autograd_s_gradients(bias: bool, magnitude: bool) -> None:
    made = projection(Dense(random(12, 6), random(12) if bias else None), magnitude=magnitude)
    x = random(9, 6).requires_grad_()
    upstream = random(9, 12)
    leaves = [x, *made.parameters()]
    ours, theirs = made(x), plainly(made, x)
    torch.testing.assert_close(ours, theirs)
    found = torch.autograd.grad((ours * upstream).sum(), leaves)
    for mine, expected in zip(found, torch.autograd.grad((theirs * upstream).sum(), leaves), strict=True):
        torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-5)


def test_dropout_takes_from_the_adapter_alone_and_its_gradient_agrees() -> None:
    made = projection(Dense(random(12, 6)), dropout=0.5)
    x = random(4, 6).requires_grad_()
    torch.manual_seed(1)
    dropped = made(x)
    torch.manual_seed(1)
    kept = F.dropout(torch.ones_like(x), 0.5)
    expected = x @ made.frozen.dense().t() + plainly(made, x * kept) - (x * kept) @ made.frozen.dense().t()
    torch.testing.assert_close(dropped, expected)
    torch.testing.assert_close(*(torch.autograd.grad(y.square().sum(), x)[0] for y in (dropped, expected)))
    made.eval()
    torch.testing.assert_close(made(x), plainly(made, x))


def test_trained_linear_layers_pass_gradcheck() -> None:
    layer = TrainedLinear(nn.Linear(4, 3).double(), torch.float64)
    assert torch.autograd.gradcheck(layer, (random(5, 4, dtype=torch.float64).requires_grad_(),))
    x = random(5, 4, dtype=torch.float64)
    y = layer(x)
    torch.testing.assert_close(y, F.linear(x, layer.weight, layer.bias))
    ours = torch.autograd.grad(y.square().sum(), [layer.weight, layer.bias])
    theirs = torch.autograd.grad(F.linear(x, layer.weight, layer.bias).square().sum(), [layer.weight, layer.bias])
    torch.testing.assert_close(ours, theirs)


def test_norm_and_gate_pass_gradcheck() -> None:
    norm = RmsNorm(nn.Parameter(random(6, dtype=torch.float64)), 1e-5)
    x = random(3, 6, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(norm, (x,))
    torch.testing.assert_close(norm(x), F.rms_norm(x, (6,), norm.weight, 1e-5))
    ours = torch.autograd.grad(norm(x).sin().sum(), norm.weight)
    theirs = torch.autograd.grad(F.rms_norm(x, (6,), norm.weight, 1e-5).sin().sum(), norm.weight)
    torch.testing.assert_close(ours, theirs)
    assert torch.autograd.gradcheck(swiglu, (x,))
    torch.testing.assert_close(swiglu(x), F.silu(x[:, :3]) * x[:, 3:])


def test_bf16_on_a_cpu_that_would_emulate_it_is_fp32_rounded_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_emulates_bf16", lambda: True)
    a, b = (random(*shape, dtype=torch.bfloat16) for shape in ((5, 300), (7, 300)))
    exact = (a.double() @ b.double().t()).to(torch.bfloat16)
    assert torch.equal(products.times_transposed(a, b), exact)
    assert torch.equal(products.times(a, b.t()), exact)
    assert torch.equal(products.times_transposed(a, b, exact[0]), (a.double() @ b.double().t() + exact[0]).bfloat16())
    batched = a.expand(2, -1, -1), b.expand(2, -1, -1)
    assert torch.equal(products.batched_times_transposed(*batched), exact.expand(2, -1, -1))
    assert torch.equal(products.batched_times(batched[0], batched[1].transpose(1, 2)), exact.expand(2, -1, -1))
    assert torch.equal(
        products.batched_transposed_times(batched[0].transpose(1, 2), batched[1].transpose(1, 2)),
        exact.expand(2, -1, -1),
    )


@pytest.mark.skipif(not has_onednn(), reason="oneDNN's products need AVX-512")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_packed_weights_multiply_as_plain_ones(dtype: torch.dtype, rows: int) -> None:
    weight, bias = random(48, 32, dtype=dtype), random(48, dtype=dtype)
    packed = freeze(weight, bias)
    assert isinstance(packed, Packed)
    assert torch.equal(packed.dense(), weight)
    x, dy = random(rows, 32, dtype=dtype), random(rows, 48, dtype=dtype)
    exact = x.double() @ weight.double().t() + bias.double(), dy.double() @ weight.double()
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    for found, expected in zip((packed.forward(x), packed.backward(dy)), exact, strict=True):
        torch.testing.assert_close(found.double(), expected, rtol=tolerance, atol=tolerance * 10)


def test_four_bits_are_levels_of_their_blocks_and_near_the_weight() -> None:
    weight = random(32, 64)
    weight[3] = 0
    kept = FourBit(weight)
    dense = kept.dense()
    assert torch.equal(FourBit(dense).dense(), dense)
    assert torch.equal(dense[3], torch.zeros(64))
    assert all(len(row.unique()) <= 16 for row in dense)
    assert torch.equal(dense.abs().amax(1), weight.abs().amax(1))
    assert F.cosine_similarity(dense.flatten(), weight.flatten(), dim=0) > 0.99
    x = random(3, 64)
    torch.testing.assert_close(kept.forward(x), x @ dense.t())
    torch.testing.assert_close(kept.backward(random(3, 32)), random(3, 32) @ dense)
    with pytest.raises(ValueError, match="whole number of blocks"):
        FourBit(random(3, 7))


def eager_attention(
    query: Tensor, key: Tensor, value: Tensor, starts: tuple[int, ...], window: int | None, turns: tuple[Tensor, Tensor]
) -> Tensor:
    rotated = turns[0].shape[1]
    still = [x[..., rotated:] for x in (query, key)]
    turned = apply_rotary_pos_emb(
        query[..., :rotated].transpose(0, 1)[None],
        key[..., :rotated].transpose(0, 1)[None],
        turns[0][None],
        turns[1][None],
    )
    query, key = (torch.cat([t[0].transpose(0, 1), s], -1) for t, s in zip(turned, still, strict=True))
    outs = []
    for begin, end in pairwise(starts):
        q, k, v = (x[begin:end].transpose(0, 1) for x in (query, key, value))
        back = torch.arange(end - begin)[:, None] - torch.arange(end - begin)
        seen = (back >= 0) & (back < (window or end))
        outs.append(F.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=0.3, enable_gqa=True).transpose(0, 1))
    return torch.cat(outs)


@pytest.mark.parametrize("lengths", [(1,), (5, 7, 128, 130, 1, 329), (400, 9, 9, 9), (60, 58, 61, 60)])
@pytest.mark.parametrize("window", [None, 7, 150])
@pytest.mark.parametrize("rotated", [8, 4])
def test_attention_by_document_has_eager_s_output_and_gradients(
    lengths: tuple[int, ...], window: int | None, rotated: int
) -> None:
    starts = (0, *accumulate(lengths))
    query, key, value = (random(starts[-1], heads, 8, seed=heads).requires_grad_() for heads in (6, 2, 2))
    angles = random(starts[-1], rotated // 2).repeat(1, 2)
    turns = angles.cos(), angles.sin()
    layout = documents.plan(starts, torch.device("cpu"))
    ours = documents.attend(query, key, value, layout, scale=0.3, window=window, rotary=turns)
    theirs = eager_attention(query, key, value, starts, window, turns)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    upstream = random(*ours.shape)
    found = torch.autograd.grad((ours * upstream).sum(), (query, key, value))
    expected = torch.autograd.grad((theirs * upstream).sum(), (query, key, value))
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-4)


@given(st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_a_layout_holds_every_token_once_beside_its_own_document(lengths: list[int]) -> None:
    starts = (0, *accumulate(lengths))
    layout = documents.plan(starts, torch.device("cpu"))
    assert sum(group.count for group in layout.groups) == len(lengths)
    rows = sum(group.count * group.length for group in layout.groups)
    sources = torch.arange(rows) if layout.sources_R is None else layout.sources_R
    places = torch.arange(rows) if layout.places_T is None else layout.places_T
    assert torch.equal(sources[places], torch.arange(starts[-1]))
    padding = torch.tensor([], dtype=torch.int64) if layout.padding is None else layout.padding
    assert sorted([*places.tolist(), *padding.tolist()]) == list(range(rows))
    document = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    for group in layout.groups:
        inside = sources[group.first : group.first + group.count * group.length].view(group.count, group.length)
        assert (document[inside] == document[inside[:, :1]]).all()
        assert ((inside[:, 1:] - inside[:, :-1] == 1) | (inside[:, 1:] == inside[:, -1:])).all()


@pytest.mark.parametrize("chunk", [40, 8_000_000])
@pytest.mark.parametrize(
    "shape", [loss.Shape(), loss.Shape(smoothing=0.1), loss.Shape(gamma=2.0), loss.Shape(factor=0.3)]
)
def test_losses_have_autograd_s_gradients_however_they_are_cut(
    monkeypatch: pytest.MonkeyPatch, shape: loss.Shape, chunk: int
) -> None:
    monkeypatch.setattr(loss, "_CHUNK_LOGITS", chunk)
    hidden, weight, upstream = random(11, 6).requires_grad_(), random(13, 6).requires_grad_(), random(11)
    targets = torch.arange(11) % 13
    logits = hidden @ weight.t() * shape.factor
    expected = F.cross_entropy(logits, targets, reduction="none", label_smoothing=shape.smoothing)
    if shape.gamma:
        expected = (1 - torch.exp(-expected)) ** shape.gamma * expected
    theirs = torch.autograd.grad((expected * upstream).sum(), (hidden, weight))
    losses, right = loss.token_losses(hidden, Dense(weight.detach()), targets, shape)
    torch.testing.assert_close(losses, expected)
    assert torch.equal(right, logits.argmax(1) == targets)
    torch.testing.assert_close(torch.autograd.grad((losses * upstream).sum(), hidden)[0], theirs[0])
    trained, _ = loss.trained_token_losses(hidden, weight, targets, shape)
    for mine, other in zip(torch.autograd.grad((trained * upstream).sum(), (hidden, weight)), theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-4, atol=1e-5)


def test_a_hopeless_target_has_a_finite_loss_and_gradient() -> None:
    hidden = torch.tensor([[1000.0, 0.0]]).requires_grad_()
    losses, right = loss.token_losses(hidden, Dense(torch.eye(2)), torch.tensor([1]), loss.Shape())
    losses.sum().backward()
    assert losses.tolist() == [1000.0]
    assert right.tolist() == [False]
    assert hidden.grad is not None
    assert hidden.grad.tolist() == [[1.0, -1.0]]


def test_keeping_memory_is_harmless_where_it_cannot_be_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.platform", "darwin")
    assert keep_freed_memory.__wrapped__() is False
