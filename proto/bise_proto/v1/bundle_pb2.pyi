from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ChatFormat(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    CHAT_FORMAT_UNSPECIFIED: _ClassVar[ChatFormat]
    NONE: _ClassVar[ChatFormat]
    JINJA: _ClassVar[ChatFormat]
    MISTRAL: _ClassVar[ChatFormat]
CHAT_FORMAT_UNSPECIFIED: ChatFormat
NONE: ChatFormat
JINJA: ChatFormat
MISTRAL: ChatFormat

class Bundle(_message.Message):
    __slots__ = ("format_version", "name", "version", "architecture", "graph", "kv_cache", "quantization", "tokenizer", "chat_format", "accuracy", "provenance", "files")
    FORMAT_VERSION_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ARCHITECTURE_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    KV_CACHE_FIELD_NUMBER: _ClassVar[int]
    QUANTIZATION_FIELD_NUMBER: _ClassVar[int]
    TOKENIZER_FIELD_NUMBER: _ClassVar[int]
    CHAT_FORMAT_FIELD_NUMBER: _ClassVar[int]
    ACCURACY_FIELD_NUMBER: _ClassVar[int]
    PROVENANCE_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    format_version: int
    name: str
    version: str
    architecture: Architecture
    graph: Graph
    kv_cache: KvCache
    quantization: Quantization
    tokenizer: Tokenizer
    chat_format: ChatFormat
    accuracy: Accuracy
    provenance: Provenance
    files: _containers.RepeatedCompositeFieldContainer[File]
    def __init__(self, format_version: _Optional[int] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., architecture: _Optional[_Union[Architecture, _Mapping]] = ..., graph: _Optional[_Union[Graph, _Mapping]] = ..., kv_cache: _Optional[_Union[KvCache, _Mapping]] = ..., quantization: _Optional[_Union[Quantization, _Mapping]] = ..., tokenizer: _Optional[_Union[Tokenizer, _Mapping]] = ..., chat_format: _Optional[_Union[ChatFormat, str]] = ..., accuracy: _Optional[_Union[Accuracy, _Mapping]] = ..., provenance: _Optional[_Union[Provenance, _Mapping]] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ...) -> None: ...

class Architecture(_message.Message):
    __slots__ = ("family", "num_layers", "hidden_size", "intermediate_size", "num_heads", "num_kv_heads", "head_dim", "vocab_size", "tied_embeddings", "rope_theta", "rms_norm_eps", "trained_context", "sliding_window", "parameters", "full_attention_layers", "rotary_dim", "rope_scaling", "biased", "activation", "norm_placement", "embedding_scale", "attention_scale", "attention_softcap", "logit_softcap")
    FAMILY_FIELD_NUMBER: _ClassVar[int]
    NUM_LAYERS_FIELD_NUMBER: _ClassVar[int]
    HIDDEN_SIZE_FIELD_NUMBER: _ClassVar[int]
    INTERMEDIATE_SIZE_FIELD_NUMBER: _ClassVar[int]
    NUM_HEADS_FIELD_NUMBER: _ClassVar[int]
    NUM_KV_HEADS_FIELD_NUMBER: _ClassVar[int]
    HEAD_DIM_FIELD_NUMBER: _ClassVar[int]
    VOCAB_SIZE_FIELD_NUMBER: _ClassVar[int]
    TIED_EMBEDDINGS_FIELD_NUMBER: _ClassVar[int]
    ROPE_THETA_FIELD_NUMBER: _ClassVar[int]
    RMS_NORM_EPS_FIELD_NUMBER: _ClassVar[int]
    TRAINED_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    SLIDING_WINDOW_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    FULL_ATTENTION_LAYERS_FIELD_NUMBER: _ClassVar[int]
    ROTARY_DIM_FIELD_NUMBER: _ClassVar[int]
    ROPE_SCALING_FIELD_NUMBER: _ClassVar[int]
    BIASED_FIELD_NUMBER: _ClassVar[int]
    ACTIVATION_FIELD_NUMBER: _ClassVar[int]
    NORM_PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    EMBEDDING_SCALE_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_SCALE_FIELD_NUMBER: _ClassVar[int]
    ATTENTION_SOFTCAP_FIELD_NUMBER: _ClassVar[int]
    LOGIT_SOFTCAP_FIELD_NUMBER: _ClassVar[int]
    family: str
    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    tied_embeddings: bool
    rope_theta: float
    rms_norm_eps: float
    trained_context: int
    sliding_window: int
    parameters: int
    full_attention_layers: _containers.RepeatedScalarFieldContainer[int]
    rotary_dim: int
    rope_scaling: RopeScaling
    biased: _containers.RepeatedScalarFieldContainer[str]
    activation: str
    norm_placement: str
    embedding_scale: float
    attention_scale: float
    attention_softcap: float
    logit_softcap: float
    def __init__(self, family: _Optional[str] = ..., num_layers: _Optional[int] = ..., hidden_size: _Optional[int] = ..., intermediate_size: _Optional[int] = ..., num_heads: _Optional[int] = ..., num_kv_heads: _Optional[int] = ..., head_dim: _Optional[int] = ..., vocab_size: _Optional[int] = ..., tied_embeddings: _Optional[bool] = ..., rope_theta: _Optional[float] = ..., rms_norm_eps: _Optional[float] = ..., trained_context: _Optional[int] = ..., sliding_window: _Optional[int] = ..., parameters: _Optional[int] = ..., full_attention_layers: _Optional[_Iterable[int]] = ..., rotary_dim: _Optional[int] = ..., rope_scaling: _Optional[_Union[RopeScaling, _Mapping]] = ..., biased: _Optional[_Iterable[str]] = ..., activation: _Optional[str] = ..., norm_placement: _Optional[str] = ..., embedding_scale: _Optional[float] = ..., attention_scale: _Optional[float] = ..., attention_softcap: _Optional[float] = ..., logit_softcap: _Optional[float] = ...) -> None: ...

class RopeScaling(_message.Message):
    __slots__ = ("divisors", "magnitude")
    DIVISORS_FIELD_NUMBER: _ClassVar[int]
    MAGNITUDE_FIELD_NUMBER: _ClassVar[int]
    divisors: _containers.RepeatedScalarFieldContainer[float]
    magnitude: float
    def __init__(self, divisors: _Optional[_Iterable[float]] = ..., magnitude: _Optional[float] = ...) -> None: ...

class Graph(_message.Message):
    __slots__ = ("target", "context", "logits_dtype", "model_file", "weight_files", "prompt_attention")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    LOGITS_DTYPE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FILE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FILES_FIELD_NUMBER: _ClassVar[int]
    PROMPT_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    target: str
    context: int
    logits_dtype: str
    model_file: str
    weight_files: _containers.RepeatedScalarFieldContainer[str]
    prompt_attention: str
    def __init__(self, target: _Optional[str] = ..., context: _Optional[int] = ..., logits_dtype: _Optional[str] = ..., model_file: _Optional[str] = ..., weight_files: _Optional[_Iterable[str]] = ..., prompt_attention: _Optional[str] = ...) -> None: ...

class KvCache(_message.Message):
    __slots__ = ("dtype", "bytes_per_token")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_TOKEN_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    bytes_per_token: int
    def __init__(self, dtype: _Optional[str] = ..., bytes_per_token: _Optional[int] = ...) -> None: ...

class Quantization(_message.Message):
    __slots__ = ("precision", "block_size", "bits_per_weight", "classes", "activations")
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    BLOCK_SIZE_FIELD_NUMBER: _ClassVar[int]
    BITS_PER_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    CLASSES_FIELD_NUMBER: _ClassVar[int]
    ACTIVATIONS_FIELD_NUMBER: _ClassVar[int]
    precision: str
    block_size: int
    bits_per_weight: float
    classes: _containers.RepeatedCompositeFieldContainer[TensorClass]
    activations: str
    def __init__(self, precision: _Optional[str] = ..., block_size: _Optional[int] = ..., bits_per_weight: _Optional[float] = ..., classes: _Optional[_Iterable[_Union[TensorClass, _Mapping]]] = ..., activations: _Optional[str] = ...) -> None: ...

class TensorClass(_message.Message):
    __slots__ = ("name", "format", "parameters", "bytes", "rounding")
    NAME_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    ROUNDING_FIELD_NUMBER: _ClassVar[int]
    name: str
    format: str
    parameters: int
    bytes: int
    rounding: str
    def __init__(self, name: _Optional[str] = ..., format: _Optional[str] = ..., parameters: _Optional[int] = ..., bytes: _Optional[int] = ..., rounding: _Optional[str] = ...) -> None: ...

class Tokenizer(_message.Message):
    __slots__ = ("kind", "file", "add_bos", "bos_token_id", "eos_token_ids")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[Tokenizer.Kind]
        TOKENIZERS: _ClassVar[Tokenizer.Kind]
        TEKKEN: _ClassVar[Tokenizer.Kind]
        SENTENCEPIECE: _ClassVar[Tokenizer.Kind]
    KIND_UNSPECIFIED: Tokenizer.Kind
    TOKENIZERS: Tokenizer.Kind
    TEKKEN: Tokenizer.Kind
    SENTENCEPIECE: Tokenizer.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    FILE_FIELD_NUMBER: _ClassVar[int]
    ADD_BOS_FIELD_NUMBER: _ClassVar[int]
    BOS_TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    EOS_TOKEN_IDS_FIELD_NUMBER: _ClassVar[int]
    kind: Tokenizer.Kind
    file: str
    add_bos: bool
    bos_token_id: int
    eos_token_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, kind: _Optional[_Union[Tokenizer.Kind, str]] = ..., file: _Optional[str] = ..., add_bos: _Optional[bool] = ..., bos_token_id: _Optional[int] = ..., eos_token_ids: _Optional[_Iterable[int]] = ...) -> None: ...

class Accuracy(_message.Message):
    __slots__ = ("reference", "prompts", "positions", "mean_kl", "p99_kl", "top1_agreement", "max_logit_difference", "perplexity_ratio", "reference_version")
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    PROMPTS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    MEAN_KL_FIELD_NUMBER: _ClassVar[int]
    P99_KL_FIELD_NUMBER: _ClassVar[int]
    TOP1_AGREEMENT_FIELD_NUMBER: _ClassVar[int]
    MAX_LOGIT_DIFFERENCE_FIELD_NUMBER: _ClassVar[int]
    PERPLEXITY_RATIO_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_VERSION_FIELD_NUMBER: _ClassVar[int]
    reference: str
    prompts: int
    positions: int
    mean_kl: float
    p99_kl: float
    top1_agreement: float
    max_logit_difference: float
    perplexity_ratio: float
    reference_version: str
    def __init__(self, reference: _Optional[str] = ..., prompts: _Optional[int] = ..., positions: _Optional[int] = ..., mean_kl: _Optional[float] = ..., p99_kl: _Optional[float] = ..., top1_agreement: _Optional[float] = ..., max_logit_difference: _Optional[float] = ..., perplexity_ratio: _Optional[float] = ..., reference_version: _Optional[str] = ...) -> None: ...

class Provenance(_message.Message):
    __slots__ = ("source_kind", "source_files", "tools", "notes")
    class ToolsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    SOURCE_KIND_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FILES_FIELD_NUMBER: _ClassVar[int]
    TOOLS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    source_kind: str
    source_files: _containers.RepeatedCompositeFieldContainer[File]
    tools: _containers.ScalarMap[str, str]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source_kind: _Optional[str] = ..., source_files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., tools: _Optional[_Mapping[str, str]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class File(_message.Message):
    __slots__ = ("path", "size_bytes", "sha256")
    PATH_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    path: str
    size_bytes: int
    sha256: str
    def __init__(self, path: _Optional[str] = ..., size_bytes: _Optional[int] = ..., sha256: _Optional[str] = ...) -> None: ...
