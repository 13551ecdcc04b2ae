class Parts(nn.Module):
    """Modules and tensors under the names of their keys; the module around them runs them."""

    def __init__(self, *parts: tuple) -> None:
        super().__init__()
        for name, part, *is_saved in parts:
            if isinstance(part, nn.Module):
                self._modules[name] = part
            elif isinstance(part, nn.Parameter):
                self._parameters[name] = part
            else:
                self._buffers[name] = part
                if is_saved == [False]:
                    self._non_persistent_buffers_set.add(name)
