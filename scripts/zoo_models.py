"""Small architectures of the families that people train, with random weights: what scripts/zoo.py sweeps.

MODELS: {name: (family, make)}; make() returns a Row.
"""
from dataclasses import dataclass, field

import torch
from torch import nn
from torch.nn import functional

VOCAB, LENGTH, WIDTH = 96, 16, 32
SAMPLES = 20  # 5 steps of 4


@dataclass
class Row:
    module: nn.Module
    inputs: dict            # name -> SAMPLES examples
    labels: torch.Tensor
    loss: str = "cross_entropy"  # of zopt's
    class_axis: int = -1
    pairs: bool = False     # labels are numbers of samples: each is its own
    outputs: list = None    # names, where the first tensor is not the one
    flags: list = field(default_factory=list)


MODELS = {}


def model(family, name):
    def register(make):
        MODELS[name] = (family, make)
        return make
    return register


def tokens(length=LENGTH, low=1):
    return torch.randint(low, VOCAB, (SAMPLES, length))


def classes(count, *shape):
    return torch.randint(count, (SAMPLES, *shape))


def image(size=32, channels=3):
    return torch.randn(SAMPLES, channels, size, size)


# ---- transformers ------------------------------------------------------------------------------------------------------------------

COMMON = dict(vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, pad_token_id=0,
              hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
NO_DROP = dict(attention_dropout=0.0, hidden_dropout=0.0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, activation_dropout=0.0, dropout=0.0, resid_dropout=0.0, embed_dropout=0.0, classifier_dropout=0.0)


def hf(type, cls, attention=None, **config):
    import transformers
    made = transformers.AutoConfig.for_model(type, **config)
    made.use_cache = False
    if attention:
        made._attn_implementation = attention
    return getattr(transformers, cls)(made)


def causal(name, type, cls, **config):
    @model("decoder", name)
    def make():
        values = {**COMMON, "num_key_value_heads": 2, **NO_DROP, **config}
        return Row(hf(type, cls, **{k: v for k, v in values.items() if v is not ...}), {"input_ids": tokens()}, classes(VOCAB, LENGTH))


causal("gpt2", "gpt2", "GPT2LMHeadModel", n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64, hidden_size=..., num_attention_heads=..., num_hidden_layers=..., max_position_embeddings=..., num_key_value_heads=...)
causal("gpt-neo", "gpt_neo", "GPTNeoForCausalLM", num_layers=2, num_heads=4, attention_types=[[["global", "local"], 1]], window_size=8, num_hidden_layers=..., num_attention_heads=..., num_key_value_heads=...)
causal("gpt-neox", "gpt_neox", "GPTNeoXForCausalLM", rotary_pct=0.5)
causal("gptj", "gptj", "GPTJForCausalLM", n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64, rotary_dim=4, n_inner=64, hidden_size=..., num_attention_heads=..., num_hidden_layers=..., max_position_embeddings=..., num_key_value_heads=...)
causal("codegen", "codegen", "CodeGenForCausalLM", n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64, n_ctx=64, rotary_dim=4, hidden_size=..., num_attention_heads=..., num_hidden_layers=..., max_position_embeddings=..., num_key_value_heads=...)
causal("opt", "opt", "OPTForCausalLM", ffn_dim=64, word_embed_proj_dim=WIDTH)
causal("bloom", "bloom", "BloomForCausalLM", n_layer=2, n_head=4, num_hidden_layers=..., num_attention_heads=..., num_key_value_heads=...)
causal("gpt-bigcode", "gpt_bigcode", "GPTBigCodeForCausalLM", n_embd=WIDTH, n_layer=2, n_head=4, n_positions=64, multi_query=True, hidden_size=..., num_attention_heads=..., num_hidden_layers=..., max_position_embeddings=..., num_key_value_heads=...)
causal("mpt", "mpt", "MptForCausalLM", d_model=WIDTH, n_heads=4, n_layers=2, max_seq_len=64, expansion_ratio=2, hidden_size=..., num_attention_heads=..., num_hidden_layers=..., num_key_value_heads=...)
causal("llama", "llama", "LlamaForCausalLM")
causal("mistral", "mistral", "MistralForCausalLM", sliding_window=8)
causal("mixtral", "mixtral", "MixtralForCausalLM", num_local_experts=4, num_experts_per_tok=2, sliding_window=None)
causal("qwen2", "qwen2", "Qwen2ForCausalLM")
causal("qwen3", "qwen3", "Qwen3ForCausalLM", head_dim=8)
causal("gemma", "gemma", "GemmaForCausalLM", head_dim=8)
causal("gemma2", "gemma2", "Gemma2ForCausalLM", head_dim=8, sliding_window=8, query_pre_attn_scalar=8)
causal("gemma3", "gemma3_text", "Gemma3ForCausalLM", head_dim=8, sliding_window=8, query_pre_attn_scalar=8, layer_types=["sliding_attention", "full_attention"])
causal("phi", "phi", "PhiForCausalLM", partial_rotary_factor=0.5)
causal("phi3", "phi3", "Phi3ForCausalLM", sliding_window=None, original_max_position_embeddings=64)
causal("falcon", "falcon", "FalconForCausalLM", multi_query=True, parallel_attn=True, bias=False, alibi=False, num_key_value_heads=..., num_kv_heads=1)
causal("stablelm", "stablelm", "StableLmForCausalLM", partial_rotary_factor=0.5)
causal("olmo", "olmo", "OlmoForCausalLM")
causal("olmo2", "olmo2", "Olmo2ForCausalLM")
causal("cohere", "cohere", "CohereForCausalLM")
causal("starcoder2", "starcoder2", "Starcoder2ForCausalLM", sliding_window=None)
causal("granite", "granite", "GraniteForCausalLM")
causal("smollm3", "smollm3", "SmolLM3ForCausalLM")
causal("nemotron", "nemotron", "NemotronForCausalLM")
causal("mamba", "mamba", "MambaForCausalLM", state_size=4, conv_kernel=4, expand=2, num_attention_heads=..., max_position_embeddings=..., num_key_value_heads=..., intermediate_size=...)
causal("rwkv", "rwkv", "RwkvForCausalLM", attention_hidden_size=WIDTH, context_length=64, num_attention_heads=..., max_position_embeddings=..., num_key_value_heads=...)


def encoder(name, type, cls="ForSequenceClassification", prefix=None, low=1, token_types=False, **config):
    @model("encoder", name)
    def make():
        values = {**COMMON, **NO_DROP, "num_labels": 3, **config}
        module = hf(type, cls, **{k: v for k, v in values.items() if v is not ...})
        mask = torch.ones(SAMPLES, LENGTH, dtype=torch.int64)
        for i in range(SAMPLES):
            mask[i, LENGTH - i % 5:] = 0
        inputs = {"input_ids": tokens(low=low), "attention_mask": mask}
        if token_types:
            inputs["token_type_ids"] = torch.randint(2, (SAMPLES, LENGTH))
        labels = classes(VOCAB, LENGTH) if "MaskedLM" in cls else classes(3, LENGTH) if "Token" in cls else classes(3)
        return Row(module, inputs, labels)


encoder("bert", "bert", "BertForSequenceClassification", token_types=True)
encoder("bert-mlm", "bert", "BertForMaskedLM", token_types=True)
encoder("roberta", "roberta", "RobertaForSequenceClassification", pad_token_id=1, low=2, max_position_embeddings=66)
encoder("xlm-roberta", "xlm-roberta", "XLMRobertaForTokenClassification", pad_token_id=1, low=2, max_position_embeddings=66)
encoder("distilbert", "distilbert", "DistilBertForSequenceClassification", dim=WIDTH, n_layers=2, n_heads=4, hidden_dim=64, seq_classif_dropout=0.0, hidden_size=..., num_hidden_layers=..., num_attention_heads=..., intermediate_size=...)
encoder("albert", "albert", "AlbertForSequenceClassification", embedding_size=16, classifier_dropout_prob=0.0)
encoder("electra", "electra", "ElectraForSequenceClassification", embedding_size=16, summary_last_dropout=0.0)
encoder("deberta", "deberta", "DebertaForSequenceClassification", relative_attention=True, pos_att_type=["c2p", "p2c"], pooler_dropout=0.0, cls_dropout=0.0, pooler_hidden_size=WIDTH)
encoder("deberta-v2", "deberta-v2", "DebertaV2ForSequenceClassification", relative_attention=True, pos_att_type=["c2p", "p2c"], pooler_dropout=0.0, cls_dropout=0.0, pooler_hidden_size=WIDTH, position_buckets=8,
        norm_rel_ebd="layer_norm", share_att_key=True)
encoder("mpnet", "mpnet", "MPNetForSequenceClassification", pad_token_id=1, low=2, max_position_embeddings=66)
encoder("modernbert", "modernbert", "ModernBertForSequenceClassification", local_attention=8, global_attn_every_n_layers=2, mlp_dropout=0.0, embedding_dropout=0.0, cls_token_id=1, sep_token_id=2, reference_compile=False)
encoder("xlnet", "xlnet", "XLNetForSequenceClassification", d_model=WIDTH, n_layer=2, n_head=4, d_inner=64, summary_last_dropout=0.0, hidden_size=..., num_hidden_layers=..., num_attention_heads=..., max_position_embeddings=...)
encoder("funnel", "funnel", "FunnelForSequenceClassification", block_sizes=[1, 1], d_model=WIDTH, n_head=4, d_head=8, d_inner=64, hidden_size=..., num_attention_heads=..., num_hidden_layers=...)


def sequence_to_sequence(name, type, cls, **config):
    @model("encoder-decoder", name)
    def make():
        values = dict(vocab_size=VOCAB, d_model=WIDTH, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64, max_position_embeddings=64,
                      bos_token_id=0, eos_token_id=1, pad_token_id=0, decoder_start_token_id=0, forced_eos_token_id=None, num_layers=2, num_decoder_layers=2, num_heads=4, d_kv=8, d_ff=64, dropout_rate=0.0, **NO_DROP)
        module = hf(type, cls, **{k: v for k, v in {**values, **config}.items() if v is not ...})
        return Row(module, {"input_ids": tokens(low=2), "attention_mask": torch.ones(SAMPLES, LENGTH, dtype=torch.int64), "decoder_input_ids": tokens(12, low=2)}, classes(VOCAB, 12))


sequence_to_sequence("t5", "t5", "T5ForConditionalGeneration")
sequence_to_sequence("flan-t5", "t5", "T5ForConditionalGeneration", feed_forward_proj="gated-gelu", tie_word_embeddings=False)
sequence_to_sequence("bart", "bart", "BartForConditionalGeneration")
sequence_to_sequence("marian", "marian", "MarianMTModel", activation_function="swish", decoder_vocab_size=VOCAB)
sequence_to_sequence("pegasus", "pegasus", "PegasusForConditionalGeneration")


@model("speech", "whisper")
def whisper():
    module = hf("whisper", "WhisperForConditionalGeneration", vocab_size=VOCAB, d_model=WIDTH, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=64, decoder_ffn_dim=64,
                num_mel_bins=8, max_source_positions=20, max_target_positions=32, bos_token_id=0, eos_token_id=1, pad_token_id=0, decoder_start_token_id=0, suppress_tokens=None, begin_suppress_tokens=None,
                dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, apply_spec_augment=False)
    return Row(module, {"input_features": torch.randn(SAMPLES, 8, 40), "decoder_input_ids": tokens(12)}, classes(VOCAB, 12))


SPEECH = dict(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, conv_dim=[16, 16], conv_kernel=[10, 3], conv_stride=[5, 2], num_feat_extract_layers=2,
              num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4, hidden_dropout=0.0, attention_dropout=0.0, activation_dropout=0.0, feat_proj_dropout=0.0, feat_extract_dropout=0.0, final_dropout=0.0,
              layerdrop=0.0, apply_spec_augment=False, mask_time_prob=0.0, num_labels=5, classifier_proj_size=16)


@model("speech", "wav2vec2")
def wav2vec2():
    return Row(hf("wav2vec2", "Wav2Vec2ForSequenceClassification", **SPEECH), {"input_values": torch.randn(SAMPLES, 400)}, classes(5))


@model("speech", "hubert")
def hubert():
    return Row(hf("hubert", "HubertForSequenceClassification", **SPEECH), {"input_values": torch.randn(SAMPLES, 400)}, classes(5))


@model("speech", "ast")
def ast():
    module = hf("audio-spectrogram-transformer", "ASTForAudioClassification", hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, patch_size=4, frequency_stride=4, time_stride=4,
                max_length=24, num_mel_bins=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=5)
    return Row(module, {"input_values": torch.randn(SAMPLES, 24, 16)}, classes(5))


@model("speech", "conformer")
def conformer():
    return Row(Conformer(8, WIDTH, 4), {"features": torch.randn(SAMPLES, 24, 8)}, classes(VOCAB, 24))


@model("multimodal", "clip")
def clip():
    import transformers
    config = transformers.CLIPConfig(text_config=dict(vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=32, bos_token_id=0, eos_token_id=1),
                                     vision_config=dict(hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4), projection_dim=16)
    # Each image with every caption of its batch.
    return Row(transformers.CLIPModel(config), {"input_ids": tokens(low=2), "pixel_values": image(16)}, torch.arange(SAMPLES) % 4, pairs=True, outputs=["logits_per_image"])


@model("multimodal", "siglip")
def siglip():
    import transformers
    config = transformers.SiglipConfig(text_config=dict(vocab_size=VOCAB, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=LENGTH, projection_size=WIDTH),
                                       vision_config=dict(hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=16, patch_size=4))
    return Row(transformers.SiglipModel(config), {"input_ids": tokens(low=2), "pixel_values": image(16)}, torch.arange(SAMPLES) % 4, pairs=True, outputs=["logits_per_image"])


# ---- images ------------------------------------------------------------------------------------------------------------------------

VISION = dict(hidden_size=WIDTH, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=16, patch_size=4, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=5)


def vision(name, type, cls, size=16, **config):
    @model("vision", name)
    def make():
        return Row(hf(type, cls, **{k: v for k, v in {**VISION, **config}.items() if v is not ...}), {"pixel_values": image(size)}, classes(5))


vision("vit", "vit", "ViTForImageClassification")
vision("deit", "deit", "DeiTForImageClassification")
vision("beit", "beit", "BeitForImageClassification", drop_path_rate=0.0, use_relative_position_bias=True)
vision("dinov2", "dinov2", "Dinov2ForImageClassification", drop_path_rate=0.0)
vision("swin", "swin", "SwinForImageClassification", size=32, image_size=32, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, drop_path_rate=0.0, hidden_size=..., num_hidden_layers=..., num_attention_heads=..., intermediate_size=...)
vision("convnext-hf", "convnext", "ConvNextForImageClassification", size=32, hidden_sizes=[16, 32], depths=[1, 1], num_stages=2, drop_path_rate=0.0, hidden_size=..., num_hidden_layers=..., num_attention_heads=..., intermediate_size=...)


@model("segmentation", "segformer")
def segformer():
    module = hf("segformer", "SegformerForSemanticSegmentation", num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[16, 32], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
                hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, classifier_dropout_prob=0.0, drop_path_rate=0.0, decoder_hidden_size=16, num_labels=4)
    return Row(module, {"pixel_values": image(32)}, classes(4, 8, 8), class_axis=1)


def torchvision(name, make, size=32, count=5, family="vision", wrap=None, **arguments):
    @model(family, name)
    def build():
        import torchvision.models
        module = make(torchvision.models)(num_classes=count, weights=None, **arguments)
        for m in module.modules():
            if isinstance(m, nn.Dropout):
                m.p = 0.0
            if type(m).__name__ == "StochasticDepth":
                m.p = 0.0
        module = wrap(module) if wrap else module
        return Row(module, {"x": image(size)}, classes(count) if family == "vision" else classes(count, size, size), class_axis=-1 if family == "vision" else 1)


class Renamed(nn.Module):
    """The one input goes by x, and the result is the part `key`."""

    def __init__(self, module, key=None):
        super().__init__()
        self.module, self.key = module, key

    def forward(self, x):
        result = self.module(x)
        return result[self.key] if self.key else result


torchvision("resnet18", lambda m: m.resnet18)
torchvision("resnext50", lambda m: m.resnext50_32x4d)
torchvision("vgg11-bn", lambda m: m.vgg11_bn)
torchvision("squeezenet", lambda m: m.squeezenet1_1)
torchvision("mobilenet-v2", lambda m: m.mobilenet_v2)
torchvision("mobilenet-v3", lambda m: m.mobilenet_v3_small)
torchvision("efficientnet-b0", lambda m: m.efficientnet_b0, stochastic_depth_prob=0.0)
torchvision("regnet", lambda m: m.regnet_y_400mf)
torchvision("densenet121", lambda m: m.densenet121)
torchvision("shufflenet", lambda m: m.shufflenet_v2_x0_5)
torchvision("mnasnet", lambda m: m.mnasnet0_5)
torchvision("convnext", lambda m: lambda **k: m.convnext.ConvNeXt([m.convnext.CNBlockConfig(16, 32, 1), m.convnext.CNBlockConfig(32, None, 1)], stochastic_depth_prob=0.0, **{n: v for n, v in k.items() if n != "weights"}))
torchvision("fcn", lambda m: lambda **k: m.segmentation.fcn_resnet50(weights_backbone=None, **k), family="segmentation", count=4, wrap=lambda m: Renamed(m, "out"))
torchvision("deeplabv3", lambda m: lambda **k: m.segmentation.deeplabv3_mobilenet_v3_large(weights_backbone=None, **k), family="segmentation", count=4, wrap=lambda m: Renamed(m, "out"))


def timm(name, kind, size=32, **arguments):
    @model("vision", name)
    def build():
        import timm as library
        return Row(library.create_model(kind, pretrained=False, num_classes=5, **arguments), {"x": image(size)}, classes(5))


timm("timm-vit", "vit_tiny_patch16_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4)
timm("timm-resnet", "resnet10t")
timm("eva02", "eva02_tiny_patch14_224", img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4)


def mixer(**arguments):
    from timm.models import mlp_mixer as library
    arguments = {k: getattr(library, v) if isinstance(v, str) else v for k, v in arguments.items()}
    return Row(library.MlpMixer(num_classes=5, img_size=32, patch_size=8, embed_dim=32, num_blocks=2, **arguments), {"x": image(32)}, classes(5))


model("vision", "mlp-mixer")(mixer)
model("vision", "gmlp")(lambda: mixer(block_layer="SpatialGatingBlock", mlp_layer="GatedMlp", mlp_ratio=6))
timm("levit", "levit_128s", size=64, img_size=64)


@model("vision", "bit")
def bit():
    from timm.models import resnetv2 as library  # convolutions whose weights are standardized
    return Row(library.ResNetV2((1, 1), channels=(128, 256), num_classes=5, stem_chs=32, stem_type="fixed"), {"x": image(32)}, classes(5))


@model("vision", "poolformer")
def poolformer():
    from timm.models import metaformer as library
    module = library.MetaFormer(depths=(1, 1, 1, 1), dims=(16, 32, 48, 64), num_classes=5, downsample_norm=None, mlp_act=nn.GELU, mlp_bias=True, norm_layers=library.GroupNorm1, layer_scale_init_values=1e-5,
                                res_scale_init_values=None, use_mlp_head=False)
    return Row(module, {"x": image(32)}, classes(5))


# ---- of PyTorch's own parts --------------------------------------------------------------------------------------------------------

class UNet(nn.Module):
    def __init__(self, width=8, count=3):
        super().__init__()
        block = lambda i, o: nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())
        self.down1, self.down2, self.middle = block(3, width), block(width, 2 * width), block(2 * width, 4 * width)
        self.up2, self.merge2 = nn.ConvTranspose2d(4 * width, 2 * width, 2, 2), block(4 * width, 2 * width)
        self.up1, self.merge1 = nn.ConvTranspose2d(2 * width, width, 2, 2), block(2 * width, width)
        self.head = nn.Conv2d(width, count, 1)

    def forward(self, x):
        a = self.down1(x)
        b = self.down2(functional.max_pool2d(a, 2))
        c = self.middle(functional.max_pool2d(b, 2))
        b = self.merge2(torch.cat([b, self.up2(c)], 1))
        return self.head(self.merge1(torch.cat([a, self.up1(b)], 1)))


class Recurrent(nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        self.embedding = nn.Embedding(VOCAB, 16)
        self.cells = kind(16, 24, batch_first=True, **options)
        self.head = nn.Linear(24 * (2 if options.get("bidirectional") else 1), 4)

    def forward(self, input_ids):
        return self.head(self.cells(self.embedding(input_ids))[0][:, -1])


class DLRM(nn.Module):
    """Embedding tables, a bottom and a top perceptron, and all products of pairs between them."""

    def __init__(self):
        super().__init__()
        self.tables = nn.ModuleList(nn.Embedding(50, 8) for _ in range(4))
        self.bottom = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 8), nn.ReLU())
        self.top = nn.Sequential(nn.Linear(8 + 10, 16), nn.ReLU(), nn.Linear(16, 1))
        self.register_buffer("rows", torch.triu_indices(5, 5, 1)[0], persistent=False)
        self.register_buffer("columns", torch.triu_indices(5, 5, 1)[1], persistent=False)

    def forward(self, dense, categories):
        x = self.bottom(dense)
        parts = torch.stack([x] + [table(categories[:, i]) for i, table in enumerate(self.tables)], 1)
        pairs = (parts @ parts.transpose(1, 2))[:, self.rows, self.columns]
        return self.top(torch.cat([x, pairs], 1))


class Conformer(nn.Module):
    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            feed = lambda: nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.SiLU(), nn.Linear(2 * width, width))
            self.first, self.second = feed(), feed()
            self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, heads, batch_first=True)
            self.before = nn.LayerNorm(width)
            self.convolution = nn.Sequential(nn.Conv1d(width, 2 * width, 1), nn.GLU(1), nn.Conv1d(width, width, 7, padding=3, groups=width), nn.BatchNorm1d(width), nn.SiLU(), nn.Conv1d(width, width, 1))
            self.after = nn.LayerNorm(width)

        def forward(self, x):
            x = x + 0.5 * self.first(x)
            y = self.norm(x)
            x = x + self.attention(y, y, y, need_weights=False)[0]
            x = x + self.convolution(self.before(x).transpose(1, 2)).transpose(1, 2)
            return self.after(x + 0.5 * self.second(x))

    def __init__(self, features, width, heads):
        super().__init__()
        self.start, self.blocks, self.head = nn.Linear(features, width), nn.Sequential(*[self.Block(width, heads) for _ in range(2)]), nn.Linear(width, VOCAB)

    def forward(self, features):
        return self.head(self.blocks(self.start(features)))


class DiT(nn.Module):
    """A diffusion transformer: patches, a timestep's embedding, adaptive norms; predicts noise."""

    class Block(nn.Module):
        def __init__(self, width, heads):
            super().__init__()
            self.n1, self.n2 = nn.LayerNorm(width, elementwise_affine=False), nn.LayerNorm(width, elementwise_affine=False)
            self.attention, self.heads = nn.Linear(width, 3 * width), heads
            self.out = nn.Linear(width, width)
            self.mlp = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU("tanh"), nn.Linear(2 * width, width))
            self.modulation = nn.Sequential(nn.SiLU(), nn.Linear(width, 6 * width))

        def forward(self, x, c):
            s1, g1, b1, s2, g2, b2 = self.modulation(c)[:, None].chunk(6, -1)
            y = self.n1(x) * (1 + g1) + b1
            q, k, v = self.attention(y).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            x = x + s1 * self.out(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
            return x + s2 * self.mlp(self.n2(x) * (1 + g2) + b2)

    def __init__(self, width=WIDTH, heads=4):
        super().__init__()
        self.patches, self.position = nn.Conv2d(3, width, 4, 4), nn.Parameter(torch.randn(1, 16, width) * 0.02)
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.blocks = nn.ModuleList(self.Block(width, heads) for _ in range(2))
        self.head = nn.Linear(width, 48)

    def forward(self, x, t):
        frequencies = torch.exp(-torch.arange(8) * 1.0)
        angles = t[:, None] * frequencies
        c = self.time(torch.cat([angles.cos(), angles.sin()], -1))
        y = self.patches(x).flatten(2).transpose(1, 2) + self.position
        for block in self.blocks:
            y = block(y, c)
        return self.head(y).unflatten(1, (4, 4)).unflatten(-1, (3, 4, 4)).permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


class VAE(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.GroupNorm(2, 8), nn.SiLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.GroupNorm(4, 16), nn.SiLU())
        self.decoder = nn.Sequential(nn.ConvTranspose2d(16, 8, 4, 2, 1), nn.InstanceNorm2d(8, affine=True), nn.LeakyReLU(0.1), nn.Upsample(scale_factor=2), nn.Conv2d(8, 1, 3, padding=1), nn.Hardtanh())

    def forward(self, x):
        return self.decoder(self.encoder(x))


class TCN(nn.Module):
    """Dilated causal convolutions over time."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv1d(4 if i == 0 else 16, 16, 3, dilation=2 ** i) for i in range(3))
        self.head = nn.Linear(16, 2)

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = functional.elu(layer(functional.pad(x, (2 * 2 ** i, 0))))
        return self.head(x[:, :, -1])


class Tabular(nn.Module):
    """FT-Transformer in small: a token a feature."""

    def __init__(self):
        super().__init__()
        self.weight, self.bias, self.cls = nn.Parameter(torch.randn(8, 16)), nn.Parameter(torch.randn(8, 16)), nn.Parameter(torch.randn(1, 1, 16))
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True, norm_first=True, activation="gelu"), 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 6)

    def forward(self, x):
        y = x[..., None] * self.weight + self.bias
        return self.head(self.encoder(torch.cat([self.cls.expand(x.shape[0], -1, -1), y], 1))[:, 0])


class Graph(nn.Module):
    """Two graph convolutions with a dense adjacency."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.head = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 3)

    def forward(self, nodes, edges):
        weights = edges / edges.sum(-1, keepdim=True).clamp(min=1)
        x = torch.relu(weights @ self.a(nodes))
        return self.head(torch.relu(weights @ self.b(x)).amax(1))


class Seq2SeqTransformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.source, self.target, self.position = nn.Embedding(VOCAB, WIDTH), nn.Embedding(VOCAB, WIDTH), nn.Parameter(torch.randn(32, WIDTH) * 0.02)
        self.core = nn.Transformer(WIDTH, 4, 1, 1, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(WIDTH, VOCAB)

    def forward(self, source, target):
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        return self.head(self.core(self.source(source) + self.position[:source.shape[1]], self.target(target) + self.position[:target.shape[1]], tgt_mask=mask))


model("segmentation", "unet")(lambda: Row(UNet(), {"x": image(16)}, classes(3, 16, 16), class_axis=1))
model("recurrent", "lstm")(lambda: Row(Recurrent(nn.LSTM), {"input_ids": tokens()}, classes(4)))
model("recurrent", "bilstm")(lambda: Row(Recurrent(nn.LSTM, num_layers=2, bidirectional=True), {"input_ids": tokens()}, classes(4)))
model("recurrent", "gru")(lambda: Row(Recurrent(nn.GRU), {"input_ids": tokens()}, classes(4)))
model("recurrent", "rnn")(lambda: Row(Recurrent(nn.RNN), {"input_ids": tokens()}, classes(4)))
model("recommendation", "dlrm")(lambda: Row(DLRM(), {"dense": torch.randn(SAMPLES, 6), "categories": torch.randint(50, (SAMPLES, 4))}, torch.randint(2, (SAMPLES, 1)).float(), loss="bce_with_logits"))
model("generation", "dit")(lambda: Row(DiT(), {"x": image(16), "t": torch.rand(SAMPLES)}, image(16), loss="mse"))
model("generation", "vae")(lambda: Row(VAE(), {"x": image(16, 1)}, image(16, 1).tanh(), loss="mse"))
model("series", "tcn")(lambda: Row(TCN(), {"x": torch.randn(SAMPLES, 4, 24)}, torch.randn(SAMPLES, 2), loss="l1"))
model("tabular", "ft-transformer")(lambda: Row(Tabular(), {"x": torch.randn(SAMPLES, 8)}, torch.randint(2, (SAMPLES, 6)).float(), loss="bce_with_logits"))
model("graph", "gcn")(lambda: Row(Graph(), {"nodes": torch.randn(SAMPLES, 10, 8), "edges": torch.randint(2, (SAMPLES, 10, 10)).float()}, classes(3)))
model("encoder-decoder", "nn-transformer")(lambda: Row(Seq2SeqTransformer(), {"source": tokens(), "target": tokens(12)}, classes(VOCAB, 12)))
