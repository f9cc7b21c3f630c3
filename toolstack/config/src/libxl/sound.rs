//! Sound cards.

use crate::libxl::choice::{PcmFormat, StreamType};
use crate::libxl::scalar::{DevId, structures};

structures! {
    /// A sound card.
    Vsnd {
        /// Domain of the back end, by number.
        backend_domid: u32,
        /// Domain of the back end, by name.
        backend_domname: Option<String>,
        /// Number.
        devid: DevId,
        /// Short name.
        short_name: Option<String>,
        /// Long name.
        long_name: Option<String>,
        /// What its devices can do.
        params: VsndParams,
        /// Its PCM devices.
        pcms: Vec<VsndPcm>,
    }

    /// A PCM device.
    VsndPcm {
        /// Name.
        name: Option<String>,
        /// What its streams can do.
        params: VsndParams,
        /// Its streams.
        streams: Vec<VsndStream>,
    }

    /// A stream.
    VsndStream {
        /// Name for the back end to know it by.
        unique_id: Option<String>,
        /// Direction.
        #[serde(rename = "type")]
        kind: Option<StreamType>,
        /// What it can do.
        params: VsndParams,
    }

    /// What can be heard.
    VsndParams {
        /// Samples a second.
        sample_rates: Vec<u32>,
        /// Formats.
        sample_formats: Vec<PcmFormat>,
        /// Fewest channels.
        channels_min: u32,
        /// Most channels.
        channels_max: u32,
        /// Bytes of the buffer.
        buffer_size: u32,
    }
}
