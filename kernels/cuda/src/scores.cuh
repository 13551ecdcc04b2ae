
// The mask of a head of an image, or none.
DEV const T* mask_of(const Attention& a, int image, int head) {
    if (!a.mask) return 0;
    int start = head * a.mask_head;
    for (int axis = a.before_rank - 1; axis >= 0; --axis) {
        start += image % a.before[axis] * a.mask_before[axis];
        image /= a.before[axis];
    }
    return a.mask + start;
}

// What is subtracted from scores whose largest is `top`: where all so far are -inf, their weights are 0.
DEV float base_of(float top) { return top == -INFINITE ? 0.f : top; }
