//! The schema: one layer as it stands in its file, with every key optional and checked by its rule.
//!
//! Unknown keys are faults. It never sets a default; the layers above and below do.

use serde::Deserialize;
use toml::Spanned;

use super::Board;
use super::rule::{
    Cors, Count, Factor, Host, Is, Label, Listen, Number, Origin, Pattern, Proxy, Sha256, Size,
    Topic, Until, Window,
};
use crate::limits::TOPICS_MAX;

pub(super) type List<R> = Vec<Is<R>>;

/// One layer as it stands in its file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) board: Option<Spanned<Board>>,
    pub(super) server: RawServer,
    pub(super) limits: RawLimits,
    pub(super) jsonp: RawJsonp,
    pub(super) sources: RawSources,
    pub(super) token: Vec<Spanned<RawToken>>,
    pub(super) source: Vec<Spanned<toml::Table>>,
    pub(super) topic: Vec<Spanned<RawTopic>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServer {
    pub(super) listen: Option<Spanned<List<Listen>>>,
    pub(super) name: Option<Is<Label>>,
    pub(super) heartbeat: Option<Is<Count<1, 30>>>,
    pub(super) hosts: Option<List<Host>>,
    pub(super) origins: Option<List<Origin>>,
    pub(super) cors: Option<List<Cors>>,
    pub(super) trusted_proxies: Option<List<Proxy>>,
    pub(super) push_host: Option<Is<Host>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) viewers: Option<Is<Count<1, 100_000>>>,
    pub(super) pages: Option<Is<Count<8, 4096>>>,
    pub(super) ring_bytes: Option<Is<Count<65_536, { 1 << 30 }>>>,
    pub(super) topics: Option<Is<Count<8, { TOPICS_MAX as u32 }>>>,
    pub(super) history_bytes: Option<Is<Count<0, { 1 << 30 }>>>,
    pub(super) per_address: Option<Is<Count<1, 100_000>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawJsonp {
    pub(super) topics: Option<List<Pattern>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSources {
    pub(super) include: Option<List<Pattern>>,
    pub(super) exclude: Option<List<Pattern>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawToken {
    pub(super) name: Is<Label>,
    pub(super) sha256: Is<Sha256>,
    #[serde(default)]
    pub(super) read: List<Pattern>,
    #[serde(default)]
    pub(super) write: List<Pattern>,
    pub(super) until: Option<Until>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTopic {
    #[serde(rename = "match")]
    pub(super) match_: Is<Pattern>,
    pub(super) label: Option<Is<Label>>,
    pub(super) unit: Option<Is<Label>>,
    pub(super) scale: Option<Is<Factor>>,
    pub(super) offset: Option<Is<Number>>,
    pub(super) round: Option<Is<Count<0, 9>>>,
    pub(super) keep: Option<bool>,
    pub(super) dead_band: Option<Is<Size>>,
    pub(super) median: Option<Is<Window>>,
    pub(super) min: Option<Is<Number>>,
    pub(super) max: Option<Is<Number>>,
    pub(super) rename: Option<Is<Topic>>,
}
