"""Names that a model's source may use, and what to write instead of others that are often met. Data only.

What is in no list here is refused. The lists hold what works record by record in a graph (see `operators`); where a
name is allowed but one use of it is not, the exporter refuses that use.
"""

from __future__ import annotations

LAYERS = frozenset(
    """
    AdaptiveAvgPool1d AdaptiveAvgPool2d AdaptiveMaxPool1d AdaptiveMaxPool2d AlphaDropout AvgPool1d AvgPool2d AvgPool3d
    Bilinear CELU ConstantPad1d ConstantPad2d Conv1d Conv2d Conv3d ConvTranspose1d ConvTranspose2d ConvTranspose3d
    CosineSimilarity Dropout Dropout1d Dropout2d ELU Embedding EmbeddingBag FeatureAlphaDropout Flatten GELU GLU
    GroupNorm GRU GRUCell Hardshrink Hardsigmoid Hardswish Hardtanh Identity InstanceNorm1d InstanceNorm2d LayerNorm
    LeakyReLU Linear LogSigmoid LogSoftmax LSTM LSTMCell MaxPool1d MaxPool2d MaxPool3d Mish Module ModuleDict ModuleList
    MultiheadAttention PairwiseDistance Parameter ParameterDict ParameterList PReLU ReLU ReLU6 RMSNorm RNN RNNCell SELU
    Sequential Sigmoid SiLU Softmax Softmax2d Softmin Softplus Softshrink Softsign Tanh Tanhshrink Threshold
    TransformerEncoder TransformerEncoderLayer Unflatten Upsample UpsamplingBilinear2d UpsamplingNearest2d ZeroPad1d
    ZeroPad2d
    """.split()
)
INITIALISERS = frozenset(
    """
    calculate_gain constant_ dirac_ eye_ kaiming_normal_ kaiming_uniform_ normal_ ones_ orthogonal_ sparse_
    trunc_normal_ uniform_ xavier_normal_ xavier_uniform_ zeros_
    """.split()
)
_SHARED = """celu conv1d conv2d hardshrink layer_norm group_norm log_softmax prelu relu selu sigmoid softmax tanh"""
FUNCTIONS = frozenset(
    f"""
    {_SHARED} adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool1d alpha_dropout avg_pool1d avg_pool2d avg_pool3d
    bilinear conv3d cosine_similarity dropout dropout1d dropout2d elu elu_ embedding embedding_bag feature_alpha_dropout
    gelu glu hardsigmoid hardswish hardtanh hardtanh_ instance_norm interpolate leaky_relu leaky_relu_ linear logsigmoid
    max_pool1d max_pool2d max_pool3d mish normalize one_hot pad pairwise_distance relu6 relu_ rms_norm
    scaled_dot_product_attention sigmoid silu softmin softplus softsign tanh tanhshrink threshold threshold_ upsample
    """.split()
)
TORCH = frozenset(
    f"""
    {_SHARED} abs absolute acos acosh add addcdiv addcmul addmm all amax amin any arange arccos arcsin arctan argmax
    argmin as_tensor asin asinh atan atan2 atanh baddbmm bilinear bmm bool broadcast_tensors broadcast_to cat cdist
    ceil chunk clamp clamp_max clamp_min clip clone column_stack concat concatenate cos cosh cosine_similarity
    count_nonzero cross cummax cummin cumprod cumsum deg2rad diag diagonal diff div divide dot dstack einsum empty
    empty_like eq erf erfc exp expm1 eye flatten flip float float32 FloatTensor floor floor_divide fmod frac full
    full_like gather ge gt heaviside hstack hypot index_select int int32 int64 isfinite isinf isnan isneginf isposinf
    kthvalue le lerp linspace log log1p log2 logaddexp logcumsumexp logical_and logical_not logical_or logical_xor
    logit logsumexp long LongTensor lt masked_fill matmul max maximum mean median meshgrid min minimum mm moveaxis
    movedim mul multiply mv nan_to_num nanmean nansum narrow ne neg negative norm not_equal numel ones ones_like outer
    permute positive pow prod rad2deg ravel reciprocal relu_ remainder repeat_interleave reshape roll round rsqrt rsub
    scatter select sgn sigmoid_ sign sin sinc sinh sort split sqrt square squeeze stack std std_mean sub subtract sum
    swapaxes swapdims take_along_dim tan Tensor tensor threshold tile topk transpose tril triu true_divide trunc
    unbind unflatten unsqueeze var var_mean vstack where xlogy zeros zeros_like
    """.split()
)
MATH = frozenset("ceil cos e exp floor inf log log10 log2 pi pow prod sin sqrt tanh".split())
METHODS = frozenset(
    """
    abs absolute acos add add_ addcdiv addcmul addmm all amax amin any argmax argmin asin atan baddbmm bmm bool
    broadcast_to ceil chunk clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clip clip_ clone contiguous copy_
    cos cosh count_nonzero cummax cummin cumprod cumsum diagonal diff dim div div_ divide eq erf erfc exp exp_ expand
    expand_as expm1 fill_ flatten flatten_parameters flip fliplr float floor floor_divide fmod frac gather ge gt
    index_select int isfinite isinf isnan items keys kthvalue le lerp log log10 log1p log2 log_softmax logaddexp
    logcumsumexp logical_and logical_not logical_or logical_xor logit logsumexp long lt masked_fill masked_fill_
    matmul max maximum mean median min minimum mm moveaxis movedim mul mul_ multiply mv nan_to_num nanmean nansum
    narrow ne neg neg_ negative negative_ nelement new_empty new_full new_ones new_tensor new_zeros norm numel outer
    permute pow pow_ prod ravel reciprocal relu relu_ remainder repeat repeat_interleave reshape roll round rsqrt
    rsqrt_ scatter select sigmoid sigmoid_ sign sin sinh size softmax sort split sqrt sqrt_ square squeeze squeeze_
    std sub sub_ subtract sum swapaxes swapdims t t_ tan tanh tanh_ tile to topk transpose transpose_ tril triu
    true_divide trunc type_as unbind unflatten unfold unsqueeze unsqueeze_ values var view view_as where zero_
    zeros_like
    """.split()
)
FREEZING = frozenset({"requires_grad_"})  # a method of modules and parameters, in `__init__` alone
ATTRIBUTES = frozenset(
    """
    batch_first bias bidirectional device dilation dropout dtype embed_dim embedding_dim eps groups hidden_size
    in1_features in2_features in_channels in_features indices input_size kernel_size mT ndim negative_slope
    normalized_shape num_channels num_embeddings num_features num_groups num_heads num_layers out_channels
    out_features p padding shape stride T training values weight
    """.split()
)
BUILTINS = frozenset(
    "abs all any bool enumerate float int isinstance len list max min next range reversed sum tuple zip".split()
)
TYPING = frozenset("Any Callable Dict List Optional Sequence Tuple Union".split())
COLLECTIONS = frozenset({"collections.OrderedDict"})  # of layers by name
EXCEPTIONS = frozenset("AssertionError KeyError NotImplementedError RuntimeError TypeError ValueError".split())
DECORATORS = frozenset({"staticmethod", "property"})

# What a module tells of its parts, which changes nothing of it.
QUERIES = frozenset("children modules named_children named_modules named_parameters parameters".split())
# What may be done while a model is made, in __init__ and in methods that forward does not lead to.
RANDOM = frozenset({"torch.rand", "torch.randn"})
SETUP_METHODS = frozenset("add_module data normal_ uniform_".split())
REGISTERS = frozenset("register_buffer register_parameter add_module".split())

WRAPPERS = frozenset({"torch.nn.utils.parametrizations.weight_norm"})

# Layers that may be named to ask whether something is one, and not made.
ASKED_FOR = frozenset("BatchNorm1d BatchNorm2d BatchNorm3d Conv3d Dropout3d ConvTranspose3d InstanceNorm3d".split())
# Layers and functions that are nothing here.
NOTHING = frozenset("AlphaDropout Dropout Dropout1d Dropout2d FeatureAlphaDropout".split()) | frozenset(
    "alpha_dropout dropout dropout1d dropout2d feature_alpha_dropout".split()
)

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
    "batch_norm": "Use nn.GroupNorm or nn.LayerNorm, which stay within one record.",
    "ropout": "Use nn.Dropout, which is nothing here: the noise of DP-SGD regularises already.",
    "rand": "Leave it out: a model may draw nothing at random.",
    "item": "Keep it a tensor; a record's values may not steer Python.",
    "tolist": "Keep it a tensor; a record's values may not steer Python.",
    "detach": "Leave it out: every parameter is trained by the whole output.",
    "no_grad": "Leave it out: every parameter is trained by the whole output.",
    "data": "Use the tensor itself.",
    "cuda": "Leave it out: the datasite chooses the device.",
    "device": "Use x.device, or leave it out: the datasite chooses the device.",
    "register_buffer": "Register it in __init__, as self.register_buffer('name', torch.tensor([...])).",
    "requires_grad": "Freeze in __init__ by self.body.requires_grad_(False), or by frozen=... of the study.",
    "training": "Leave it out: a model computes the same in training and evaluation.",
    "weight_norm": "Use nn.utils.parametrizations.weight_norm(layer), which keeps nothing between records.",
    "spectral_norm": "Use the layer without it: clipping bounds each step already.",
    "numpy": "Use math or torch.",
    "np": "Use math or torch.",
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
