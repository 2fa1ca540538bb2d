"""Names that a model's source may use, and what to write instead of others that are often met. Data only.

What is in no list here is refused. The lists hold what works record by record in a graph (see `operators`); where a
name is allowed but one use of it is not, the exporter refuses that use.
"""

from __future__ import annotations

LAYERS = frozenset(
    """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d AvgPool1d AvgPool2d CELU ConstantPad1d
    ConstantPad2d Conv1d Conv2d ConvTranspose1d ConvTranspose2d ELU Embedding Flatten GELU GLU GRU GRUCell GroupNorm
    Hardsigmoid Hardswish Hardtanh Identity LSTM LSTMCell LayerNorm LeakyReLU Linear LogSigmoid LogSoftmax MaxPool1d
    MaxPool2d Mish Module ModuleDict ModuleList MultiheadAttention PReLU Parameter ParameterList RMSNorm RNN RNNCell
    ReLU ReLU6 SELU Sequential SiLU Sigmoid Softmax Softmin Softplus Softshrink Softsign Tanh Tanhshrink
    TransformerEncoder TransformerEncoderLayer Unflatten ZeroPad1d ZeroPad2d
    """.split()
)
INITIALISERS = frozenset(
    """
    constant_ eye_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_ trunc_normal_ uniform_ xavier_normal_
    xavier_uniform_ zeros_
    """.split()
)
_SHARED = """celu conv1d conv2d hardshrink layer_norm group_norm log_softmax prelu relu selu sigmoid softmax tanh"""
FUNCTIONS = frozenset(
    f"""
    {_SHARED} adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d avg_pool1d avg_pool2d cosine_similarity
    elu embedding gelu glu hardsigmoid hardswish hardtanh leaky_relu linear logsigmoid max_pool1d max_pool2d mish
    normalize one_hot pad relu6 rms_norm scaled_dot_product_attention silu softmin softplus softsign tanhshrink
    """.split()
)
TORCH = frozenset(
    f"""
    {_SHARED} Tensor abs acos add addmm amax amin arange argmax argmin asin atan atan2 baddbmm bmm bool cat ceil
    chunk clamp concat cos cosh cumsum diff div einsum eq erf exp expm1 flatten flip float float32 floor full
    full_like ge gt int64 le log log1p log2 logical_and logical_not logical_or logsumexp long lt matmul maximum mean
    minimum mm movedim mul ne neg norm ones ones_like outer permute pow prod reciprocal reshape roll rsqrt sin sinh
    sort split sqrt square squeeze stack std sub sum swapaxes tan tensor topk transpose tril triu unsqueeze var
    where zeros zeros_like
    """.split()
)
MATH = frozenset("ceil cos e exp floor inf log log10 log2 pi pow prod sin sqrt tanh".split())
METHODS = frozenset(
    """
    abs add all amax amin any argmax argmin bmm chunk clamp contiguous cos cumsum diff dim div eq erf exp expand
    expand_as expm1 flatten flip float floor ge gt le log log1p logsumexp long lt masked_fill matmul max mean min mm
    movedim mul ne neg new_full new_ones new_zeros norm numel permute pow prod reciprocal relu repeat reshape roll
    rsqrt select sigmoid sin size softmax log_softmax sort split sqrt square squeeze std sub sum swapaxes t tanh
    topk transpose tril triu type_as unbind unflatten unsqueeze var view view_as where zeros_like items keys values
    """.split()
)
FREEZING = frozenset({"parameters", "requires_grad_"})  # methods of modules and parameters, in `__init__` alone
ATTRIBUTES = frozenset(
    """
    shape T mT ndim dtype weight bias in_features out_features in_channels out_channels hidden_size input_size
    num_layers embed_dim num_heads
    """.split()
)
BUILTINS = frozenset("abs bool enumerate float int len list max min range reversed sum tuple zip".split())

# Attributes that every nn.Module has: a model may define no other meaning for them.
RESERVED = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches
    eval extra_repr float get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules
    mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook
    register_buffer register_forward_hook register_forward_pre_hook register_full_backward_hook
    register_full_backward_pre_hook register_load_state_dict_post_hook register_load_state_dict_pre_hook
    register_module register_parameter register_state_dict_post_hook register_state_dict_pre_hook requires_grad_
    set_extra_state set_submodule share_memory state_dict to to_empty train training type xpu zero_grad _apply
    _backward_hooks _backward_pre_hooks _buffers _call_impl _compiled_call_impl _forward_hooks
    _forward_hooks_always_called _forward_hooks_with_kwargs _forward_pre_hooks _forward_pre_hooks_with_kwargs
    _get_backward_hooks _get_backward_pre_hooks _get_name _is_full_backward_hook _load_from_state_dict
    _load_state_dict_post_hooks _load_state_dict_pre_hooks _maybe_warn_non_full_backward_hook _modules
    _named_members _non_persistent_buffers_set _parameters _register_load_state_dict_pre_hook
    _register_state_dict_hook _replicate_for_data_parallel _save_to_state_dict _slow_forward _state_dict_hooks
    _state_dict_pre_hooks _version _wrapped_call_impl
    """.split()
)

INSTEAD = {
    "BatchNorm": "Use nn.GroupNorm or nn.LayerNorm, which stay within one record.",
    "InstanceNorm": "Use nn.GroupNorm, with as many groups as channels.",
    "batch_norm": "Use nn.GroupNorm or nn.LayerNorm, which stay within one record.",
    "ropout": "Leave it out: the noise of DP-SGD regularises already.",
    "rand": "Leave it out: a model may draw nothing at random.",
    "item": "Keep it a tensor; a record's values may not steer Python.",
    "tolist": "Keep it a tensor; a record's values may not steer Python.",
    "numpy": "Keep it a tensor.",
    "detach": "Leave it out: every parameter is trained by the whole output.",
    "no_grad": "Leave it out: every parameter is trained by the whole output.",
    "data": "Use the tensor itself.",
    "cuda": "Leave it out: the datasite chooses the device.",
    "device": "Leave it out: the datasite chooses the device.",
    "to": "Use .float() or .long(); the datasite chooses the device.",
    "register_buffer": "Use an nn.Parameter, or write torch.tensor([...]) in forward.",
    "training": "Leave it out: a model computes the same in training and evaluation.",
    "print": "Leave it out: nothing that a model prints leaves the datasite.",
    "round": "Choose another name; in a request `round` is the number of the round.",
    "Bilinear": "Use nn.Linear on torch.cat or on products of tensors.",
    "pandas": "Leave it out: records reach the model as tensors, scaled by the schema.",
}


def instead_of(name: str, default: str) -> str:
    """What to write instead of `name`, or `default` where nothing particular is known."""
    if name in INSTEAD:
        return INSTEAD[name]
    longer = (text for word, text in INSTEAD.items() if len(word) > 3 and word in name)
    return next(longer, default)
