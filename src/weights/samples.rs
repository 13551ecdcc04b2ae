//! Small weight files for the tests of this folder.

pub(crate) struct Sample {
    key: String,
    dtype: String,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Sample {
    pub fn new(key: &str, dtype: &str, shape: &[usize], bytes: &[u8]) -> Sample {
        Sample { key: key.into(), dtype: dtype.into(), shape: shape.into(), bytes: bytes.into() }
    }

    pub fn f32(key: &str, shape: &[usize], values: &[f32]) -> Sample {
        Sample::new(key, "F32", shape, bytemuck::cast_slice(values))
    }
}

/// A safetensors file of `samples`, in their order.
pub(crate) fn safetensors(samples: &[Sample]) -> Vec<u8> {
    let (mut entries, mut data) = (vec![], vec![]);
    for sample in samples {
        let from = data.len();
        data.extend(&sample.bytes);
        let Sample { key, dtype, shape, .. } = sample;
        entries
            .push(format!(r#""{key}":{{"dtype":"{dtype}","shape":{shape:?},"data_offsets":[{from},{}]}}"#, data.len()));
    }
    let mut json = format!("{{{}}}", entries.join(","));
    while json.len() % 8 != 0 {
        json.push(' ');
    }
    [&(json.len() as u64).to_le_bytes()[..], json.as_bytes(), &data].concat()
}
