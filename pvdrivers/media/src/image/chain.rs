//! Opens an image and all that it is based on.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::qcow2_header::{self, Header};
use super::vhd::{self, Footer, Vhd};
use super::vmdk::{self, Descriptor, Extent, ExtentKind, ExtentLine, Sparse, Vmdk};
use super::{Image, Layer, Qcow2};
use crate::file::{MediaFile, Mode};
use crate::raw::RawMedium;
use crate::spec::beside;
use crate::{Format, MediumError, MediumSpec, Opener};

/// Most images on top of each other, and most files of an image.
const MAX_DEPTH: usize = 64;
const MAX_FILES: usize = 1024;

/// What a specification stands for.
#[derive(Debug)]
pub(crate) enum Opened {
    Raw(RawMedium),
    Image(Image),
}

struct Chain<'a> {
    spec: &'a MediumSpec,
    opener: &'a dyn Opener,
    files: Vec<MediaFile>,
    layers: Vec<Layer>,
}

/// Opens an image and all that it is based on.
pub(crate) fn open(spec: &MediumSpec, opener: &dyn Opener) -> Result<Opened, MediumError> {
    let mut chain = Chain {
        spec,
        opener,
        files: Vec::new(),
        layers: Vec::new(),
    };
    let file = chain.file(&spec.target, !spec.readonly)?;
    let format = match spec.format {
        Format::Probe if !spec.readonly => {
            return Err(MediumError::Spec(format!(
                "{:?} is to be written to, so its format has to be told, not guessed: \
                 a guest could make its disk look like another format",
                spec.target
            )));
        }
        Format::Probe => probe(&file)?,
        told => told,
    };
    if format == Format::Raw {
        warn_of_image(&file);
        return Ok(Opened::Raw(RawMedium::new(file, None, spec)?));
    }
    if format == Format::Vhd {
        let footer = Footer::read(&file)?;
        if footer.kind == vhd::Kind::Fixed {
            return Ok(Opened::Raw(RawMedium::new(file, Some(footer.size), spec)?));
        }
    }
    let mut next = Some((file, format, None));
    while let Some((file, format, uuid)) = next {
        next = chain.layer(file, format, uuid)?;
    }
    let discard = spec.discard && chain.files[0].can_punch();
    let sector = spec.sector_size.unwrap_or(512);
    let image = Image::new(chain.files.into(), chain.layers, sector, discard);
    Ok(Opened::Image(image))
}

/// An image given as raw is legitimate, but seldom meant.
fn warn_of_image(file: &MediaFile) {
    let format = probe(file).unwrap_or(Format::Raw);
    if format != Format::Raw {
        let (path, format) = (file.path(), format.name());
        tracing::warn!(
            ?path,
            format,
            "The disk is used as raw but looks like an image: the guest sees the image's bytes"
        );
    }
}

/// What a file looks like.
fn probe(file: &MediaFile) -> Result<Format, MediumError> {
    let size = file
        .size()
        .map_err(MediumError::file("examine", file.path()))?;
    let mut start = vec![0; size.min(512) as usize];
    let read = file.read_at(&mut start, 0);
    read.map_err(MediumError::file("read", file.path()))?;
    Ok(match &start {
        start if qcow2_header::is_one(start) => Format::Qcow2,
        start if vmdk::is_one(start) => Format::Vmdk,
        _ if Footer::read(file).is_ok() => Format::Vhd,
        _ => Format::Raw,
    })
}

/// The next image: its file, its format and the UUID it must have.
type Below = Option<(MediaFile, Format, Option<[u8; 16]>)>;

impl Chain<'_> {
    fn file(&self, path: &Path, write: bool) -> Result<MediaFile, MediumError> {
        if self.files.len() >= MAX_FILES || self.layers.len() >= MAX_DEPTH {
            return Err(MediumError::Spec(format!(
                "{:?} is based on more than {MAX_DEPTH} images",
                self.spec.target
            )));
        }
        let mode = Mode {
            write,
            direct: self.spec.direct_io,
            direct_devices: self.spec.direct_devices,
            lock: !self.spec.shared,
        };
        let file = MediaFile::open(path, mode, self.opener)?;
        let identity =
            |file: &MediaFile| file.buffered().metadata().map(|m| (m.dev(), m.ino())).ok();
        if self
            .files
            .iter()
            .any(|other| identity(other) == identity(&file))
        {
            return Err(MediumError::Spec(format!(
                "{:?} is based on {path:?} in a circle",
                self.spec.target
            )));
        }
        Ok(file)
    }

    /// Adds an image; what it is based on comes next.
    fn layer(
        &mut self,
        file: MediaFile,
        format: Format,
        uuid: Option<[u8; 16]>,
    ) -> Result<Below, MediumError> {
        let index = self.files.len();
        let path = file.path().to_owned();
        match format {
            Format::Qcow2 => self.qcow2(file, index),
            Format::Vmdk => self.vmdk(file),
            Format::Vhd => self.vhd(file, index, uuid),
            _ => {
                let size = file.size().map_err(MediumError::file("examine", &path))?;
                self.layers.push(Layer::Plain { file: index, size });
                self.files.push(file);
                Ok(None)
            }
        }
    }

    fn qcow2(&mut self, mut file: MediaFile, index: usize) -> Result<Below, MediumError> {
        let header = Header::read(&file)?;
        if header.cluster_size() < 4096 {
            // A page would hold clusters that are read and written in both ways.
            file.buffer_all();
        }
        let path = file.path().to_owned();
        let below = header
            .backing
            .as_deref()
            .map(|name| backing(&path, name, &header))
            .transpose()?;
        let image = Qcow2::open(&file, index, header, below.is_some())?;
        self.layers.push(Layer::Qcow2(Box::new(image)));
        self.files.push(file);
        let Some((name, format)) = below else {
            return Ok(None);
        };
        Ok(Some((self.file(&name, false)?, format, None)))
    }

    fn vhd(
        &mut self,
        file: MediaFile,
        index: usize,
        uuid: Option<[u8; 16]>,
    ) -> Result<Below, MediumError> {
        let path = file.path().to_owned();
        let footer = Footer::read(&file)?;
        if footer.kind == vhd::Kind::Fixed {
            let (file_index, size) = (index, footer.size);
            self.layers.push(Layer::Plain {
                file: file_index,
                size,
            });
            self.files.push(file);
            return Ok(None);
        }
        read_only(&file, "VHD", "dynamic and differencing images")?;
        let image = Vhd::open(&file, index, &footer)?;
        if uuid.is_some_and(|uuid| uuid != image.uuid()) {
            return Err(MediumError::Damaged {
                path,
                format: "VHD",
                why: "it is not the image that the one above it was made of".into(),
                hint: "Put the right parent beside the image".into(),
            });
        }
        let below = image.parent().cloned();
        self.layers.push(Layer::Vhd(image));
        self.files.push(file);
        let Some(parent) = below else {
            return Ok(None);
        };
        let parent_file = self.file(&beside(&path, &parent.path), false)?;
        Ok(Some((parent_file, Format::Vhd, Some(parent.uuid))))
    }

    fn vmdk(&mut self, file: MediaFile) -> Result<Below, MediumError> {
        read_only(&file, "VMDK", "such images")?;
        let path = file.path().to_owned();
        let size = file.size().map_err(MediumError::file("examine", &path))?;
        let read = |file: &MediaFile, at: u64, n: u64| {
            let mut bytes = vec![0; n.min(size.saturating_sub(at)) as usize];
            let read = file.read_at(&mut bytes, at);
            read.map_err(MediumError::file("read", &path))
                .map(|()| bytes)
        };
        let start = read(&file, 0, 512)?;
        if !vmdk::is_one(&start) {
            return Err(MediumError::Format {
                path: path.clone(),
                format: "VMDK",
                why: "it begins neither with \"KDMV\" nor with a descriptor".into(),
                hint: "Give the disk the format it has, perhaps format=raw".into(),
            });
        }
        let mut extents = Vec::new();
        let descriptor = if start.starts_with(b"KDMV") {
            let sparse = Sparse::open(&file, self.files.len())?;
            let text = sparse
                .descriptor
                .map(|(at, n)| read(&file, at, n))
                .transpose()?;
            let descriptor = text
                .map(|text| Descriptor::parse(&path, &text))
                .transpose()?
                .unwrap_or_default();
            extents.push((sparse.capacity, Extent::Sparse(Box::new(sparse))));
            self.files.push(file);
            descriptor
        } else {
            let descriptor = Descriptor::parse(&path, &read(&file, 0, 1 << 20)?)?;
            for line in &descriptor.extents {
                extents.push(self.extent(&path, line)?);
            }
            if self.files.is_empty() {
                self.files.push(file);
            }
            descriptor
        };
        let backed = descriptor.parent.is_some();
        self.layers.push(Layer::Vmdk(Vmdk::new(extents, backed)));
        let Some(parent) = descriptor.parent else {
            return Ok(None);
        };
        Ok(Some((
            self.file(&beside(&path, &parent), false)?,
            Format::Vmdk,
            None,
        )))
    }

    fn extent(&mut self, path: &Path, line: &ExtentLine) -> Result<(u64, Extent), MediumError> {
        let size = line.sectors * 512;
        let index = self.files.len();
        let name = match &line.kind {
            ExtentKind::Zero => return Ok((size, Extent::Zero)),
            ExtentKind::Flat { name, .. } | ExtentKind::Sparse { name } => name,
        };
        let file = self.file(&beside(path, Path::new(name)), false)?;
        let extent = match &line.kind {
            ExtentKind::Flat { sector, .. } => {
                let offset = sector.checked_mul(512);
                let end = offset.and_then(|offset| offset.checked_add(size));
                let there = file
                    .size()
                    .map_err(MediumError::file("examine", file.path()))?;
                match (offset, end) {
                    (Some(offset), Some(end)) if end <= there => Extent::Flat {
                        file: index,
                        offset,
                    },
                    _ => {
                        return Err(vmdk::damaged(
                            path,
                            format!("{name:?} is shorter than the descriptor says"),
                        ));
                    }
                }
            }
            _ => {
                let sparse = Sparse::open(&file, index)?;
                if sparse.capacity < size {
                    return Err(vmdk::damaged(
                        path,
                        format!("{name:?} is smaller than the descriptor says"),
                    ));
                }
                Extent::Sparse(Box::new(sparse))
            }
        };
        self.files.push(file);
        Ok((size, extent))
    }
}

fn read_only(file: &MediaFile, format: &'static str, which: &str) -> Result<(), MediumError> {
    match file.writable() {
        false => Ok(()),
        true => Err(MediumError::Unsupported {
            path: file.path().to_owned(),
            format,
            why: format!("{which} can only be read"),
            hint: "Make the disk read-only, or convert it: \"qemu-img convert -O qcow2\"".into(),
        }),
    }
}

/// The file below a qcow2 image and its format, which must be told.
fn backing(path: &Path, name: &str, header: &Header) -> Result<(PathBuf, Format), MediumError> {
    let unsupported = |why: String, hint: &str| MediumError::Unsupported {
        path: path.to_owned(),
        format: "qcow2",
        why,
        hint: hint.to_owned(),
    };
    let name = name.strip_prefix("file:").unwrap_or(name);
    if ["json:", "nbd:", "nbd+", "http", "ssh:"]
        .iter()
        .any(|scheme| name.starts_with(scheme))
    {
        let why = format!("it is based on {name:?}, which is no file");
        return Err(unsupported(
            why,
            "\"qemu-img rebase\" makes it depend on a file, or on nothing",
        ));
    }
    let format = match header.backing_format.as_deref() {
        Some("raw" | "file" | "host_device") => Format::Raw,
        Some("qcow2") => Format::Qcow2,
        Some("vpc") => Format::Vhd,
        Some("vmdk") => Format::Vmdk,
        Some(other) => {
            let why = format!("it is based on an image of format {other:?}");
            return Err(unsupported(
                why,
                "Convert that to qcow2 and \"qemu-img rebase\" to it",
            ));
        }
        None => {
            let why = format!(
                "it is based on {name:?} without saying of which format that is, and guessing is not safe"
            );
            return Err(unsupported(
                why,
                "\"qemu-img rebase -u -F raw|qcow2 -b FILE\" says it",
            ));
        }
    };
    Ok((beside(path, Path::new(name)), format))
}
