def attention(q: Tensor, k: Tensor, v: Tensor, heads: int, mask=None, dropout=0.0, scale=None) -> Tensor:
    """Scaled dot-product attention of heads that lie side by side in the last axis."""
    q, k, v = (x.unflatten(-1, (heads, -1)).transpose(-3, -2) for x in (q, k, v))
    x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, scale=scale)
    return x.transpose(-3, -2).flatten(-2)
