//! `vsnd`: a list of cards, each a list of strings. The first word of a string says what its
//! parameters are for: the card, a new PCM device, or a new stream of the last PCM device.

use crate::diagnostic::{SpecError, quote};
use crate::document::{Located, Value};
use crate::domain::device::devid;
use crate::domain::pairs::{Pair, pairs};
use crate::libxl::{PcmFormat, StreamType, Vsnd, VsndParams, VsndPcm, VsndStream};
use crate::reader::Reader;

const EXAMPLE: &str = "Write vsnd = [ [ \"card, short-name=Main\", \"pcm, name=dev1\", \
                       \"stream, unique-id=0, type=P\" ] ]";

pub(super) fn read(reader: &mut Reader<'_>) -> Vec<Vsnd> {
    let Some(value) = reader.get("vsnd") else {
        return Vec::new();
    };
    let Value::List(cards) = &value.value else {
        reader.error(
            "vsnd",
            "vsnd is a single value but must be a list.",
            EXAMPLE,
        );
        return Vec::new();
    };
    let cards = cards.iter().enumerate();
    cards
        .map(|(place, item)| card(reader, item, place))
        .collect()
}

fn card(reader: &mut Reader<'_>, item: &Located<Value>, place: usize) -> Vsnd {
    let mut card = Vsnd {
        devid: devid(place),
        ..Vsnd::default()
    };
    let Some(lines) = item.value.items() else {
        let error =
            reader
                .document
                .error(item.span, "A card must be a list.", Some(EXAMPLE.into()));
        reader.errors.push(error);
        return card;
    };
    for line in lines {
        reader.item(line, |text| card_line(&mut card, text));
    }
    card
}

fn card_line(card: &mut Vsnd, text: &str) -> Result<(), SpecError> {
    let (what, rest) = text.split_once(',').unwrap_or((text, ""));
    let offset = text.len() - rest.len();
    let moved = |error: SpecError| SpecError {
        range: error.range.start + offset..error.range.end + offset,
        ..error
    };
    let word = what.trim().to_ascii_lowercase();
    match word.as_str() {
        "card" => {}
        "pcm" => card.pcms.push(VsndPcm::default()),
        "stream" => {
            if card.pcms.is_empty() {
                card.pcms.push(VsndPcm::default());
            }
            let pcm = card.pcms.last_mut();
            pcm.into_iter()
                .for_each(|pcm| pcm.streams.push(VsndStream::default()));
        }
        _ => {
            let message = format!("{} is no part of a sound card.", quote(what));
            return Err(SpecError::new(0..what.len(), message).help("Known: card, pcm, stream."));
        }
    }
    for pair in pairs(rest).map_err(moved)? {
        parameter(card, &word, &pair).map_err(moved)?;
    }
    Ok(())
}

fn parameter(card: &mut Vsnd, what: &str, pair: &Pair<'_>) -> Result<(), SpecError> {
    if what == "card" {
        match pair.key {
            "backend" => card.backend_domname = pair.owned(),
            "short-name" => card.short_name = pair.owned(),
            "long-name" => card.long_name = pair.owned(),
            _ => {
                return common(
                    &mut card.params,
                    pair,
                    &["backend", "short-name", "long-name"],
                );
            }
        }
        return Ok(());
    }
    let Some(pcm) = card.pcms.last_mut() else {
        return Ok(()); // The line has made one.
    };
    if what == "pcm" {
        match pair.key {
            "name" => pcm.name = pair.owned(),
            _ => return common(&mut pcm.params, pair, &["name"]),
        }
    } else if let Some(stream) = pcm.streams.last_mut() {
        match pair.key {
            "unique-id" => stream.unique_id = pair.owned(),
            "type" => stream.kind = Some(pair.libxl_name(StreamType::NAMES)?),
            _ => return common(&mut stream.params, pair, &["unique-id", "type"]),
        }
    }
    Ok(())
}

const COMMON: &[&str] = &[
    "sample-rates",
    "sample-formats",
    "channels-min",
    "channels-max",
    "buffer-size",
];

/// What cards, PCM devices and streams all have.
fn common(params: &mut VsndParams, pair: &Pair<'_>, others: &[&str]) -> Result<(), SpecError> {
    let items = || pair.value.split(';').filter(|item| !item.is_empty());
    match pair.key {
        "sample-rates" => {
            let rates = items().map(|rate| {
                let refuse = || pair.error(format!("{} is no rate.", quote(rate)), "Write Hz.");
                rate.trim().parse().map_err(|_| refuse())
            });
            params.sample_rates = rates.collect::<Result<_, _>>()?;
        }
        "sample-formats" => {
            let formats = items().map(|format| {
                let known = PcmFormat::from_name(format.trim());
                known.ok_or_else(|| {
                    let message = format!("{} is no format of samples.", quote(format));
                    pair.error(message, "Known: s8, u8, s16_le, … as in xl.cfg(5).")
                })
            });
            params.sample_formats = formats.collect::<Result<_, _>>()?;
        }
        "channels-min" => params.channels_min = pair.number()?,
        "channels-max" => params.channels_max = pair.number()?,
        "buffer-size" => params.buffer_size = pair.number()?,
        _ => return Err(pair.unknown("A sound card", &[others, COMMON].concat())),
    }
    Ok(())
}
