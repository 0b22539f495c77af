"""Weights on disk: safetensors with a header that says what they are, loaded strictly or not at all.

The header is the file's ``__metadata__`` (text to text). Every field must be there and fit the
running code; tensors must have exactly the names, shapes and type of their family and sizes and
hold finite numbers; ``digest`` covers header and tensors, so that any flipped bit is found.
Whatever does not match is an error that names the file and the field. There is no fallback (F5).
"""

from __future__ import annotations

from ringrift_ops.rules.compile import jit as _jit  # noqa: F401  isort: skip  (sets the cache folder)

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np
import numpy.typing as npt
from safetensors import SafetensorError
from safetensors.numpy import load as load_safetensors

from ringrift_ops.errors import NoDataError, UsageError
from ringrift_ops.network import sparse
from ringrift_ops.network.encoder import ENCODER_VERSION
from ringrift_ops.network.golden import golden_digest
from ringrift_ops.network.policy import POLICY_ENCODING
from ringrift_ops.network.shapes import Family, random_tensors, tensor_shapes
from ringrift_ops.rules.game import game
from ringrift_ops.rules.layout import RULES_VERSION
from ringrift_ops.store import atomic_write

if TYPE_CHECKING:
    from ringrift_ops.network.convolutional import ConvolutionalEvaluator

Floats = npt.NDArray[np.float32]
Int64s = npt.NDArray[np.int64]

FORMAT: Final = "ringrift-weights-1"
SUFFIX: Final = ".safetensors"
LARGEST_HEADER: Final = 16 << 20


class MissingWeightsError(NoDataError):
    """There is no file of that name."""


class DamagedWeightsError(NoDataError):
    """The file is truncated, altered, or holds numbers that are not finite."""


class ForeignWeightsError(UsageError):
    """A file of another kind, config, family, encoder or version."""


@dataclass(frozen=True)
class Header:
    """What weights are and where they come from; ``""`` where there is none (a fresh net's dataset)."""

    config: str
    family: str
    sizes: Mapping[str, int]
    parent: str
    """sha256 of the weights it was trained from, "" for a random start"""
    dataset: str
    """sha256"""
    train_spec: str
    """JSON"""
    version: str
    """of the net, for people: ``0`` for a random start, the parent's plus one after a training"""
    trained_at: str
    """ISO 8601, UTC"""
    elo: str
    loss: str
    """validation loss"""
    encoder_version: str
    encoder_digest: str
    policy_encoding: str
    rules_version: str

    def as_text(self) -> dict[str, str]:
        """The metadata of the file, without its digest."""
        values = asdict(self)
        values["sizes"] = json.dumps(dict(self.sizes), sort_keys=True)
        return {"format": FORMAT, **values}


def new_header(
    config: str,
    family: str,
    sizes: Mapping[str, int],
    *,
    parent: str,
    dataset: str,
    train_spec: str,
    version: str,
    trained_at: str,
    loss: str,
) -> Header:
    """A header whose encoder, policy and rules are the running code's. Lineage has no defaults (F2)."""
    return Header(
        config=config,
        family=family,
        sizes=dict(sizes),
        parent=parent,
        dataset=dataset,
        train_spec=train_spec,
        version=version,
        trained_at=trained_at,
        elo="",
        loss=loss,
        encoder_version=ENCODER_VERSION,
        encoder_digest=golden_digest(config),
        policy_encoding=POLICY_ENCODING,
        rules_version=RULES_VERSION,
    )


@dataclass(frozen=True)
class Network:
    """A net: header and tensors (float32, read-only). ``sha256`` is that of its file, "" when unsaved."""

    header: Header
    tensors: Mapping[str, Floats]
    sha256: str

    @property
    def config(self) -> str:
        return self.header.config

    @property
    def family(self) -> str:
        return self.header.family

    @property
    def sizes(self) -> Mapping[str, int]:
        return self.header.sizes

    @cached_property
    def parameters(self) -> Floats:
        """The flat array of a sparse net for ``sparse.evaluate``. Raises ForeignWeightsError for another family."""
        if self.family != "sparse":
            raise ForeignWeightsError(
                f"a {self.family} net has no flat parameters; evaluate it in batches (evaluate_batch)"
            )
        return sparse.flatten(game(self.config).geometry, self.sizes, self.tensors)

    def evaluator(self, device: str = "cpu") -> ConvolutionalEvaluator:
        """The torch evaluator of a convolutional net on a device, built anew. Raises ForeignWeightsError."""
        if self.family != "convolutional":
            raise ForeignWeightsError(f"a {self.family} net is evaluated in compiled code (sparse.evaluate)")
        from ringrift_ops.network.convolutional import ConvolutionalEvaluator  # torch only where it is needed

        return ConvolutionalEvaluator(game(self.config), self.sizes, self.tensors, device)

    @cached_property
    def _cpu_evaluator(self) -> ConvolutionalEvaluator:
        return self.evaluator("cpu")

    def evaluate_batch(self, states: Int64s, moves: Int64s, counts: Int64s) -> tuple[Floats, Floats]:
        """Evaluate positions that are not over.

        ``states`` int64 [B, words], ``moves`` int64 [B, M] legal moves, ``counts`` int64 [B]. Returns
        values float32 [B, players] by absolute seat and logits float32 [B, M], -inf beyond the counts.
        """
        rules = game(self.config)
        if self.family == "convolutional":
            return self._cpu_evaluator.evaluate(states, moves, counts)
        values = np.zeros((len(states), rules.players), dtype=np.float32)
        logits = np.empty(moves.shape, dtype=np.float32)
        sparse.evaluate_states(rules.geometry, states, self.parameters, moves, counts, values, logits, rules.zero)
        return values, logits


def fresh_network(config: str, family: Family, sizes: Mapping[str, int], seed: int) -> Network:
    """A net at a random start. Raises UsageError for an unknown config, family or size."""
    tensors = random_tensors(game(config).geometry, family, sizes, seed)
    header = new_header(
        config, family, sizes, parent="", dataset="", train_spec="", version="0", trained_at="", loss=""
    )
    return Network(header, _frozen(tensors), "")


def _frozen(tensors: Mapping[str, npt.NDArray[Any]]) -> dict[str, Floats]:
    out = {}
    for name, tensor in tensors.items():
        copy = np.array(tensor, dtype=np.float32, order="C")
        copy.flags.writeable = False
        out[name] = copy
    return out


def with_tensors(network: Network, header: Header, tensors: Mapping[str, npt.NDArray[Any]]) -> Network:
    """Another net of the same config, family and sizes. Raises ForeignWeightsError, DamagedWeightsError."""
    made = Network(replace(header, config=network.config, family=network.family, sizes=network.sizes), tensors, "")
    _check_tensors("the new net", made.header, tensors)
    return replace(made, tensors=_frozen(tensors))


# --- writing -------------------------------------------------------------------------------------


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, npt.NDArray[Any]]) -> str:
    digest = hashlib.sha256(json.dumps(dict(metadata), sort_keys=True).encode())
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        digest.update(f"\0{name}\0{array.dtype.str}{array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def safetensors_bytes(metadata: Mapping[str, str], tensors: Mapping[str, npt.NDArray[Any]]) -> bytes:
    """A safetensors file: the same content gives the same bytes (the library's header order varies)."""
    names = {"<f4": "F32", "<f8": "F64", "<i8": "I64", "|u1": "U8"}
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    blobs, end = [], 0
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name])
        blob = array.tobytes()
        entries[name] = {
            "dtype": names[array.dtype.str],
            "shape": list(array.shape),
            "data_offsets": [end, end + len(blob)],
        }
        blobs.append(blob)
        end += len(blob)
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + b"".join(blobs)


def weights_bytes(network: Network) -> bytes:
    """The file of a net, bytes. Raises DamagedWeightsError when a number is not finite."""
    _check_tensors("the net to save", network.header, network.tensors)
    text = network.header.as_text()
    return safetensors_bytes({**text, "digest": _digest(text, network.tensors)}, network.tensors)


def save_network(network: Network, path: Path) -> Network:
    """Write a net atomically; returns it with its sha256. Raises WriteError, DamagedWeightsError."""
    content = weights_bytes(network)
    atomic_write(path, content)
    return replace(network, sha256=hashlib.sha256(content).hexdigest())


# --- reading -------------------------------------------------------------------------------------


def _read(path: Path) -> bytes:
    if path.is_dir():
        raise ForeignWeightsError(f"{path} is a folder, not a {SUFFIX} file")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise MissingWeightsError(f"there are no weights {path}") from error


def read_tensors(path: Path) -> tuple[dict[str, str], dict[str, npt.NDArray[Any]], str]:
    """Metadata, tensors and sha256 of any safetensors file that is whole.

    Raises MissingWeightsError, ForeignWeightsError (a pickle, a zip, something else), DamagedWeightsError.
    """
    content = _read(path)
    length = int.from_bytes(content[:8], "little")
    ours = content[8:9] == b"{" and length <= len(content) - 8  # a header of 128 or 384 bytes begins as a pickle does
    if not ours and (content[:2] == b"PK" or content[:1] == b"\x80"):
        raise ForeignWeightsError(
            f"{path} is a pickle or zip file (.pth?): it is never opened; convert it where it is trusted"
        )
    if len(content) < 10 or length > min(LARGEST_HEADER, len(content) - 8):
        raise DamagedWeightsError(
            f"{path} is no whole safetensors file: its header would be {length} bytes of {len(content)}"
        )
    try:
        header = json.loads(content[8 : 8 + length])
        tensors = load_safetensors(content)
    except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DamagedWeightsError(f"{path} is damaged: its header or tensors cannot be read ({error})") from error
    metadata = header.get("__metadata__") if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise ForeignWeightsError(f"{path} has no metadata: it is not one of this project's files")
    return metadata, tensors, hashlib.sha256(content).hexdigest()


def _header(path: Path, metadata: Mapping[str, str]) -> Header:
    if metadata.get("format") != FORMAT:
        raise ForeignWeightsError(f"{path}: field format is {metadata.get('format')!r}, not {FORMAT!r}")
    known = {f.name for f in fields(Header)}
    found = set(metadata) - {"format", "digest"}
    if found != known:
        raise ForeignWeightsError(
            f"{path}: header fields missing: {sorted(known - found)}, unknown: {sorted(found - known)}"
        )
    try:
        sizes = json.loads(metadata["sizes"])
    except (ValueError, RecursionError) as error:
        raise DamagedWeightsError(f"{path}: field sizes is no JSON: {metadata['sizes']!r}") from error
    if not isinstance(sizes, dict) or not all(type(v) is int for v in sizes.values()):
        raise ForeignWeightsError(f"{path}: field sizes is no table of whole numbers: {metadata['sizes']!r}")
    return Header(**{**{name: metadata[name] for name in known}, "sizes": sizes})  # type: ignore[arg-type]  # sizes is the one that is no text


def _check_tensors(where: object, header: Header, tensors: Mapping[str, npt.NDArray[Any]]) -> None:
    shapes = tensor_shapes(game(header.config).geometry, header.family, header.sizes)
    if set(tensors) != set(shapes):
        raise ForeignWeightsError(
            f"{where}: tensors missing: {sorted(set(shapes) - set(tensors))}, "
            f"unknown: {sorted(set(tensors) - set(shapes))} for {header.family} {dict(header.sizes)} of {header.config}"
        )
    for name, shape in shapes.items():
        tensor = tensors[name]
        if tensor.dtype != np.float32:
            raise ForeignWeightsError(f"{where}: tensor {name} is {tensor.dtype}, not float32")
        if tensor.shape != shape:
            raise ForeignWeightsError(f"{where}: tensor {name} has shape {tensor.shape}, not {shape}")
        if not np.isfinite(tensor).all():
            bad = int(np.count_nonzero(~np.isfinite(tensor)))
            raise DamagedWeightsError(f"{where}: tensor {name} holds {bad} numbers that are not finite")


def _open(path: Path) -> tuple[Header, dict[str, npt.NDArray[Any]], str]:
    metadata, tensors, sha = read_tensors(path)
    header = _header(path, metadata)
    text = {k: v for k, v in metadata.items() if k != "digest"}
    if metadata.get("digest") != _digest(text, tensors):
        raise DamagedWeightsError(f"{path}: field digest does not fit header and tensors: the file was altered")
    return header, tensors, sha


def read_header(path: Path) -> tuple[Header, str]:
    """Header and sha256 of a weights file of any config, its digest checked (for ``model show``)."""
    header, _, sha = _open(path)
    return header, sha


def load_network(path: Path, config: str) -> Network:
    """The net of a file, if it is one of this config that the running code can use.

    Raises MissingWeightsError, DamagedWeightsError, ForeignWeightsError; each names file and field.
    """
    header, tensors, sha = _open(path)
    expected = {
        "config": config,
        "encoder_version": ENCODER_VERSION,
        "encoder_digest": golden_digest(config),
        "policy_encoding": POLICY_ENCODING,
        "rules_version": RULES_VERSION,
    }
    for name, value in expected.items():
        if getattr(header, name) != value:
            raise ForeignWeightsError(
                f"{path}: field {name} is {getattr(header, name)!r}, {config} with this code needs {value!r}; "
                "train a net for it or run the code it was made with"
            )
    if header.family not in get_args(Family):
        raise ForeignWeightsError(f"{path}: field family is {header.family!r}, not one of {get_args(Family)}")
    _check_tensors(path, header, tensors)
    return Network(header, _frozen(tensors), sha)


def convert_to_pth(path: Path, destination: Path) -> Path:
    """Write a net for tools that want ``.pth``: a dict with ``model_state_dict``, ``version``, ``trained_at``, ``elo``.

    This project never reads such files. Raises what ``load_network`` raises, and WriteError.
    """
    import torch  # only this format needs it here

    header, sha = read_header(path)
    network = load_network(path, header.config)
    state = {name: torch.from_numpy(np.array(tensor)) for name, tensor in network.tensors.items()}
    content: dict[str, Any] = {
        "model_state_dict": state,
        "version": header.version,
        "trained_at": header.trained_at,
        "elo": header.elo,
        "metadata": {**header.as_text(), "sha256": sha},
    }
    whole = io.BytesIO()  # torch's zip writer does not say what a full disk told it
    torch.save(content, whole)
    return atomic_write(destination, whole.getvalue())
