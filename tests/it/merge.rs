//! `archc export --merge`: adapters go into the layers beside them, and the outputs stay.

use archc::{Device, Format, Options, Spec, Tensor};

const OWN: &str = "
    block pointwise(rank) { down: conv2d(rank, kernel = 1, bias = false); up: conv2d(out.channels, kernel = 1, bias = false) }
    network small {
        input [N, 6, 5, 4]
        conv: conv2d(8, kernel = 1)
        relu
        reshape(8, 20) -> permute(0, 2, 1)
        attend: multi_head_attention(2)
        side: linear(8)
        attend + side
        fc: linear(3)
    }
    base small { weights random(seed = 3) }
";

fn merged(edits: &str, block: &str) -> Result<Option<String>, archc::Error> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("merged.safetensors");
    let model = Spec::from_text(format!("{OWN}{edits}")).compile()?;
    let mut exporter = model.exporter(&Options::default())?;
    exporter.merge(block)?;
    let written = exporter.write(&file, Format::SAFETENSORS, archc::DType::F32)?;
    let Some(text) = exporter.merged_spec() else { return Ok(None) };
    let input = Tensor::new([2, 6, 5, 4], (0..240).map(|at| ((at * 37 % 101) as f32 - 50.0) / 40.0).collect());
    let two = Options { batch: Some(2), ..Options::default() };
    let before = model.load(Device::Cpu, two.clone())?.run(&input)?.into_one();
    // strict: what a file lacks, or has and is not asked for, is an error
    let options = Options { weights: Some(file), ..two };
    let without = Spec::from_text(&text).compile()?;
    assert_eq!(without.exporter(&options)?.ledger().kept.len(), written, "{text}");
    let after = without.load(Device::Cpu, options)?.run(&input)?.into_one();
    let scale = before.data().iter().fold(0.0f32, |most, value| most.max(value.abs()));
    for (before, after) in before.data().iter().zip(after.data()) {
        assert!((before - after).abs() <= 1e-5 * scale, "{before} became {after} by {edits}");
    }
    Ok(Some(text))
}

#[test]
fn outputs_stay() {
    let drawn = "start = normal(0.3)";
    for (edits, block) in [
        (format!("insert lora(rank = 2, {drawn}) beside fc"), "lora"),
        (
            format!("insert lora(rank = 3, alpha = 7, {drawn}) beside attend.q, attend.v\nfreeze all except **:lora"),
            "lora",
        ),
        (format!("insert lora({drawn}) beside attend.k, attend.out_proj, side"), "lora"),
        ("insert pointwise(2) beside conv".into(), "pointwise"),
        // two beside the same layer
        (format!("insert lora({drawn}) beside attend.q\ninsert lora(rank = 1, {drawn}) beside attend.q"), "lora"),
        (
            format!("insert {{ dropout(0.5); linear(8, bias = false) }} before fc\ninsert lora({drawn}) beside fc"),
            "lora",
        ),
    ] {
        let text = merged(&edits, block).unwrap_or_else(|error| panic!("{error}\nin {edits}"));
        let text = text.unwrap_or_else(|| panic!("no spec without {edits}"));
        assert!(!text.contains("insert lora") && !text.contains("insert pointwise"), "{text}");
    }
    // what names the adapter is not the spec of what is left
    let named = format!("insert lora({drawn}) beside fc\ninit lora.down with normal(0.1)");
    assert_eq!(merged(&named, "lora").expect("it is merged"), None);
}

#[test]
fn what_is_no_matrix_beside_a_layer_is_refused() {
    let own = "block bent { linear(4, bias = false); relu; linear(out.features, bias = false) }
        block shifted { linear(out.features) }
        block straight { linear(out.features, bias = false) }
        block drawn { dropout(0.1, always = true); linear(out.features, bias = false) }";
    for (edits, block, why) in [
        ("insert relu before fc", "lora", "no layers of the network were made by a block `lora`"),
        ("insert bent beside fc", "bent", "`bent`: `bent.relu` is no linear map"),
        ("insert drawn beside fc", "drawn", "`drawn`: `drawn.dropout` draws at inference, which no weight does"),
        (
            "insert shifted beside fc",
            "shifted",
            "`shifted`: `shifted.linear` has a bias, or looks at more than one pixel",
        ),
        (
            "insert straight beside fc\ninsert dropout after straight",
            "straight",
            "its result is not added to that of a layer",
        ),
        (
            "insert straight beside side\noutput more = straight",
            "straight",
            "`straight.linear` is an output of the network",
        ),
        ("insert straight beside relu", "straight", "`straight`: `relu` is no linear layer"),
        ("insert straight beside side\noutput more = side", "straight", "`straight`: `side` is used without it, too"),
        (
            "insert linear(8) before fc\ntie linear to side\ninsert straight beside side",
            "straight",
            "`straight`: `side` is tied to another layer",
        ),
    ] {
        let error = merged(&format!("{own}\n{edits}"), block).expect_err(edits).to_string();
        assert!(error.contains(why), "{error}\nand not: {why}");
    }
}
