"""GGUF files of tiny Wan transformers, under the names that the world's files have."""

import numpy as np
import original_names


def save_gguf(model, path, kind="Q8_0", *, architecture="wan", part="transformer", also=()):
    """A component's weights as converters write them: matrices packed, all else in fp32; `also` names more that is packed."""
    import gguf

    weights = original_names.component(model, part, original_names.transformer_name)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_quantization_version(2)
    writer.add_array("general.tags", ["tiny", "random"])
    writer.add_array("general.sizes", [1, 2, 3])
    number = gguf.GGMLQuantizationType[kind]
    block, _ = gguf.GGML_QUANT_SIZES[number]
    for name, tensor in weights.items():
        plain = tensor.float().numpy()
        matrix = name.endswith("weight") and plain.ndim == 2 and not plain.shape[-1] % block
        if matrix or any(one in name for one in also):
            writer.add_tensor(name, gguf.quants.quantize(plain, number), raw_dtype=number)
        else:
            writer.add_tensor(name, plain)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def unpacked(path):
    """The file's weights by name, as diffusers makes them plain when it computes."""
    import torch
    from diffusers.models.model_loading_utils import load_gguf_checkpoint
    from diffusers.quantizers.gguf.utils import dequantize_gguf_tensor

    found = {}
    for name, weight in load_gguf_checkpoint(path).items():
        plain = dequantize_gguf_tensor(weight)
        found[name] = torch.as_tensor(np.array(plain)) if not isinstance(plain, torch.Tensor) else plain
    return found
