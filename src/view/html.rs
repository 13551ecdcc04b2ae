//! A picture as a page that folds and unfolds: one file, nothing of which comes over the network. The layout is made in the
//! browser, by the library that the other formats' layout is a port of.

use serde_json::{Value, json};

use super::fold::Fold;
use super::svg::{colour, escaped};
use super::text::{family, header, lines};
use super::{Depth, Item, Picture};
use crate::diag::Problem;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");
const LAYOUT: &str = include_str!("page/dagre.min.js");
const LICENSE: &str = include_str!("page/dagre.LICENSE");
/// The page folds what is unfolded here; no browser lays out more at once.
const BOXES: usize = 3000;

/// # Errors
/// More boxes unfolded at first than can be laid out.
pub fn write(picture: &Picture, depth: Depth) -> Result<String, Problem> {
    let fold = Fold::new(picture, depth, BOXES)?;
    let data = in_script(&json_of(picture, &fold).to_string());
    // one pass: what is put in is not looked through for the next place
    let mut page = String::with_capacity(data.len() + LAYOUT.len() + SCRIPT.len() + STYLE.len() + 4096);
    let mut rest = PAGE;
    while let Some((before, behind)) = rest.split_once("{{") {
        let (name, behind) = behind.split_once("}}").expect("the page's places are closed");
        page.push_str(before);
        match name {
            "title" => page.push_str(&escaped(&picture.title)),
            "style" => page.push_str(STYLE),
            "license" => page.push_str(LICENSE.trim_end()),
            "layout" => page.push_str(LAYOUT.trim_end()),
            "data" => page.push_str(&data),
            "script" => page.push_str(SCRIPT),
            _ => unreachable!("the page has no other places"),
        }
        rest = behind;
    }
    page.push_str(rest);
    Ok(page)
}

/// JSON that no name can end: HTML looks for `</script` and `<!--` in it, and old JavaScript for the two line ends.
fn in_script(json: &str) -> String {
    json.replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn json_of(picture: &Picture, fold: &Fold) -> Value {
    let marks = picture.marks.iter().enumerate().map(|(at, mark)| {
        json!({"name": mark.name, "text": mark.text, "result": mark.result, "colour": colour(picture, at)})
    });
    let items = picture.items.iter().map(|item| item_json(picture, item));
    let layers = picture.layers.iter().map(|layer| {
        let keys = layer.keys.iter().map(|key| json!([key.name, key.shape, key.fate]));
        let takes = layer.operands.iter().map(|operand| json!([operand.layer, operand.state as u8, operand.mark]));
        json!({
            "text": layer.text,
            "was": layer.was,
            "shape": layer.shape,
            "family": family(&layer.op),
            "keys": keys.collect::<Vec<_>>(),
            "takes": takes.collect::<Vec<_>>(),
        })
    });
    let open = (0..picture.items.len()).filter(|id| fold.open[*id]);
    json!({
        "subject": format!("{:?}", picture.subject).to_lowercase(),
        "title": picture.title,
        "figures": picture.figures,
        "marks": marks.collect::<Vec<_>>(),
        "items": items.collect::<Vec<_>>(),
        "layers": layers.collect::<Vec<_>>(),
        "open": open.collect::<Vec<_>>(),
        "each": fold.each,
        "slowest": picture.slowest,
    })
}

fn item_json(picture: &Picture, item: &Item) -> Value {
    let lines = lines(picture, item).into_iter().map(|(style, line)| json!([style.class(), line]));
    let mut json = json!({
        "parent": item.parent,
        "form": item.form.name(),
        "label": item.label,
        "head": header(item),
        "place": item.place,
        "state": item.state.name(),
        "lines": lines.collect::<Vec<_>>(),
    });
    let mut also = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            json[name] = value;
        }
    };
    also("layer", item.layer.map(|layer| json!(layer)));
    also("kind", (!item.kind.is_empty()).then(|| json!(item.kind)));
    also("shape", (!item.shape.is_empty()).then(|| json!(item.shape)));
    also("layers", item.layer.is_none().then(|| json!(item.layers)));
    also("parameters", (item.parameters > 0).then(|| json!(item.parameters)));
    also("macs", (item.macs > 0).then(|| json!(item.macs)));
    also("ms", item.ms.map(|ms| json!(ms)));
    also("marks", (!item.marks.is_empty()).then(|| json!(item.marks)));
    also("tag", picture.tag(item).map(|tag| json!(tag)));
    json
}
