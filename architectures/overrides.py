"""What the common tiny sizes do not settle, architecture by architecture."""

from __future__ import annotations

from typing import Any

_REFORMER = {
    "axial_pos_embds_dim": [16, 16],
    "axial_pos_shape": [8, 16],
    "attn_layers": ["local", "lsh"],
    "local_attn_chunk_length": 8,
    "lsh_attn_chunk_length": 8,
    "num_buckets": 4,
    "hash_seed": 0,
}

_QWEN4 = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 8,
    "indexer_compress_ratio": 4,
}

# Sizes of its sliding layers, which are no fields of the config.
_DOTS3 = {
    **dict.fromkeys(("swa_num_attention_heads", "swa_num_key_value_heads"), 4),
    **dict.fromkeys(("swa_q_lora_rank", "swa_kv_lora_rank"), 16),
    **dict.fromkeys(("swa_qk_nope_head_dim", "swa_v_head_dim"), 8),
    "swa_head_dim": 16,
}

#: model_type -> fields of its config. A dict for a nested config changes that one's fields.
OVERRIDES: dict[str, dict[str, Any]] = {
    "bailing_hybrid": {"num_expert_group": 1, "num_experts_per_token": 2},
    "bamba": {"attn_layer_indices": [1]},
    "blt": {
        # The median surprise of the tiny model, so that texts are cut into patches of all sizes.
        "patching_threshold": 4.85,
        "encoder_hash_byte_group_vocab": 50,
        "encoder_hash_byte_group_size": [3, 4],
        "patcher_config": {"num_key_value_heads": 4},
        "global_config": {"num_key_value_heads": 4, "hidden_size": 64},
        "encoder_config": {"num_key_value_heads": 4, "hidden_size_global": 64},
        "decoder_config": {"num_key_value_heads": 4, "hidden_size_global": 64},
    },
    "canine": {"local_transformer_stride": 8, "num_hash_buckets": 128},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10000.0}}
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 16, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_v4": {
        "o_groups": 2,
        "num_key_value_heads": 1,
        "compress_rates": {"compressed_sparse_attention": 4, "heavily_compressed_attention": 8},
    },
    "doge": {"is_moe": True, "num_experts": 16},
    "dots1": {"n_shared_experts": 1},
    "dots3_note": {
        "text_config": _DOTS3,
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
        "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
    },
    "dots3_note_text": _DOTS3,
    "esmc": {"num_key_value_heads": 4},
    "falcon_h1": {"mamba_d_ssm": 64},
    "gemma3n_text": {"num_kv_shared_layers": 0, "intermediate_size": 64, "laurel_rank": 8},
    "gemma4_unified": {"vision_config": None, "audio_config": None},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "granitemoehybrid": {
        "shared_intermediate_size": 32,
        "layer_types": ["linear_attention", "full_attention"],
    },
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1, "use_mamba_kernels": False},
    "kimi_linear": {"num_experts_per_token": 2},
    "lilt": {"hidden_size": 48},
    "longformer": {"sep_token_id": 3},
    "luke": {"entity_vocab_size": 50, "entity_emb_size": 16},
    # Its text embedding is put together from four coordinates and two sizes.
    "layoutlmv3": {"coordinate_size": 6, "shape_size": 4},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    # More experts than the tokens of one example choose, so that its trace lacks some.
    "longcat_flash": {"num_key_value_heads": 4, "n_routed_experts": 16, "zero_expert_num": 2},
    "mamba2": {"num_heads": 4, "head_dim": 16},
    "minimax": {"block_size": 8},
    "nemotron_h": {"num_hidden_layers": None, "moe_shared_expert_intermediate_size": 16},
    "neomme": {"head_dim": 16, "embedding_rank": 16, "per_layer_config": None},
    "perceiver": {
        "num_latents": 8,
        "d_latents": 32,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
    },
    "qwen4_exp": {"text_config": _QWEN4},
    "qwen4_exp_text": _QWEN4,
    "recurrent_gemma": {"lru_width": 32, "num_hidden_layers": 3},
    "reformer": _REFORMER,
    "roc_bert": {
        "pronunciation_embed_dim": 32,
        "pronunciation_vocab_size": 310,
        "shape_embed_dim": 32,
        "shape_vocab_size": 310,
    },
    "t5": {"decoder_start_token_id": 0},
    # Sizes of its heads are rounded up to multiples of 64.
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_blocks": None},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
        "num_hidden_layers": 4,
        "use_mamba_kernels": False,
    },
    "zamba2": {
        "num_hidden_layers": 3,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid"],
        "num_key_value_heads": 4,
        "use_mamba_kernels": False,
    },
    "zaya": {"num_experts_per_tok": 1, "router_hidden_size": 16},
}
