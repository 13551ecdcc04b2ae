def lstm_scan(gates: Tensor, weight: Tensor, reverse: bool = False) -> Tensor:
    """The recurrent part of an LSTM: gates [.., L, 4 H] to hidden states [.., L, H]."""
    steps = gates.unbind(-2)
    h = c = gates.new_zeros([*gates.shape[:-2], weight.shape[1]])
    states = []
    for step in reversed(steps) if reverse else steps:
        i, f, g, o = (step + h @ weight.T).chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        states.append(h)
    return torch.stack(states[::-1] if reverse else states, -2)
