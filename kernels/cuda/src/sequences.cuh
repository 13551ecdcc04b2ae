// Sequences whose steps are rows, some of which a block takes through all steps: for lstm_scan.cu, and for its gradient.

// A number for each sequence of a block.
template <int S> struct alignas(4 * S) Beside { float v[S]; };

// Four numbers of one unit's weights.
struct alignas(4 * sizeof(T)) Parts { T v[4]; };

// The sequences of a block, of which those beyond the last do not exist.
template <int S> struct Sequences {
    int first[S], steps, inner;
    bool exists[S], back;

    DEV_MEMBER Sequences(int from, int count, int steps, int inner, bool back) : steps(steps), inner(inner), back(back) {
#pragma unroll
        for (int s = 0; s < S; ++s) {
            const int sequence = from + s;
            exists[s] = sequence < count;
            first[s] = sequence / inner * steps * inner + sequence % inner;
        }
    }
    // The row of a step, which is counted in the order of the forward pass.
    DEV_MEMBER int row(int s, int at) const { return first[s] + (back ? steps - 1 - at : at) * inner; }
};
