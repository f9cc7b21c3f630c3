//! Every packing of a kernel there is, whole and damaged.

use std::io::Write;

use lzma_rust2::{LzmaOptions, LzmaWriter, XzOptions, XzWriter};

use super::*;
use crate::error::ErrorKind;

const CODECS: [Codec; 6] = [
    Codec::Gzip,
    Codec::Xz,
    Codec::Zstd,
    Codec::Lz4Legacy,
    Codec::Lzma,
    Codec::Bzip2,
];

/// Something of about `len` bytes that begins like ELF and compresses well.
fn elf_of(len: u32) -> Vec<u8> {
    let mut elf = ELF_MAGIC.to_vec();
    for number in 0..len / 4 {
        elf.extend_from_slice(&(number / 100).to_le_bytes());
    }
    elf
}

fn elf() -> Vec<u8> {
    elf_of(400_000)
}

fn compress(codec: Codec, bytes: &[u8]) -> Vec<u8> {
    match codec {
        Codec::Gzip => {
            let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Codec::Xz => {
            // As scripts/xz_wrap.sh of the kernel does: BCJ filter and CRC32.
            let mut options = XzOptions::with_preset(1);
            options.set_check_sum_type(lzma_rust2::CheckType::Crc32);
            options.prepend_pre_filter(lzma_rust2::FilterType::BcjX86, 0);
            let mut out = XzWriter::new(Vec::new(), options).unwrap();
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Codec::Lzma => {
            let options = LzmaOptions::with_preset(1);
            let mut out = LzmaWriter::new_use_header(Vec::new(), &options, None).unwrap();
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Codec::Zstd => {
            ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
        }
        Codec::Bzip2 => {
            let mut out = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            out.write_all(bytes).unwrap();
            out.finish().unwrap()
        }
        Codec::Lz4Legacy => {
            let mut out = vec![0x02, 0x21, 0x4c, 0x18];
            for block in bytes.chunks(8 << 20) {
                let block = lz4_flex::block::compress(block);
                out.extend_from_slice(&(block.len() as u32).to_le_bytes());
                out.extend_from_slice(&block);
            }
            out
        }
        Codec::Lzo => b"\x89LZO\0\r\n\x1a\nxxxx".to_vec(),
    }
}

/// A bzImage of protocol 2.15 with two setup sectors and something before the payload.
fn bzimage(payload: &[u8], uncompressed: usize) -> Vec<u8> {
    let mut file = vec![0; 3 * 512 + 0x2cc];
    file[0x1f1] = 2;
    file[0x1fe..0x200].copy_from_slice(&[0x55, 0xaa]);
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x20fu16.to_le_bytes());
    file[0x20e..0x210].copy_from_slice(&0x100u16.to_le_bytes());
    file[0x300..0x310].copy_from_slice(b"6.1.0-1 (gcc)\0\0\0");
    file[0x248..0x24c].copy_from_slice(&0x2ccu32.to_le_bytes());
    file[0x24c..0x250].copy_from_slice(&(payload.len() as u32 + 4).to_le_bytes());
    file.extend_from_slice(payload);
    file.extend_from_slice(&(uncompressed as u32).to_le_bytes());
    file.extend_from_slice(b"what follows a payload");
    file
}

fn error(file: &[u8]) -> (ErrorKind, String) {
    let error = KernelImage::parse(file, None).unwrap_err();
    (error.kind(), error.to_string())
}

#[test]
fn every_codec_in_a_bzimage_and_alone() {
    let elf = elf();
    for codec in CODECS {
        let payload = compress(codec, &elf);
        let file = bzimage(&payload, elf.len());
        let image = KernelImage::parse(&file, None).unwrap();
        assert!(image.elf() == elf, "{codec} in a bzImage");
        let text = image.origin().to_string();
        assert_eq!(
            text,
            format!("bzImage (protocol 2.15), {codec} compressed, Linux 6.1.0-1")
        );

        let image = KernelImage::parse(&payload, None).unwrap();
        assert!(image.elf() == elf, "{codec} alone");
        assert_eq!(image.origin(), &Origin::Compressed(codec));
    }
}

#[test]
fn lz4_goes_on_behind_its_first_block() {
    let elf = elf_of(17 << 20);
    let payload = compress(Codec::Lz4Legacy, &elf);
    assert!(
        KernelImage::parse(&bzimage(&payload, elf.len()), None)
            .unwrap()
            .elf()
            == elf
    );
    let (_, text) = error(&bzimage(&payload, elf.len() + 1));
    assert!(text.contains("(after "), "{text}");
}

#[test]
fn a_wrong_size_hint_costs_nothing() {
    let elf = elf();
    for hint in [0, 1, usize::MAX] {
        let file = bzimage(&compress(Codec::Gzip, &elf), hint);
        assert!(KernelImage::parse(&file, None).unwrap().elf() == elf);
    }
}

#[test]
fn the_cache_serves_the_second_time() {
    let dir = tempfile::tempdir().unwrap();
    let cache = PayloadCache::new(dir.path());
    let elf = elf();
    let file = bzimage(&compress(Codec::Gzip, &elf), elf.len());
    let first = KernelImage::parse(&file, Some(&cache)).unwrap();
    let second = KernelImage::parse(&file, Some(&cache)).unwrap();
    assert!(matches!(
        (&first.elf, &second.elf),
        (Bytes::Owned(_), Bytes::Cached(_))
    ));
    assert!(first.elf() == elf && second.elf() == elf);
}

#[test]
fn a_cache_that_cannot_be_written_is_no_obstacle() {
    let elf = elf();
    let cache = PayloadCache::new("/dev/null/nowhere");
    let file = compress(Codec::Gzip, &elf);
    assert!(KernelImage::parse(&file, Some(&cache)).unwrap().elf() == elf);
}

#[test]
fn a_truncated_payload_is_located() {
    let elf = elf();
    for codec in CODECS {
        let payload = compress(codec, &elf);
        // Less than eight bytes the appended size could stand in for: lzma has no checksum.
        for keep in [payload.len() - 8, payload.len() / 2, payload.len() / 100, 9] {
            let (kind, text) = error(&bzimage(&payload[..keep], elf.len()));
            assert_eq!(kind, ErrorKind::BadImage, "{codec}: {text}");
            assert!(text.contains("offset 0x8cc"), "{codec}: {text}");
        }
    }
}

#[test]
fn damaged_payloads_never_panic() {
    let elf = elf_of(20_000);
    for codec in CODECS {
        let payload = compress(codec, &elf);
        for at in (0..payload.len()).step_by(payload.len().div_ceil(300)) {
            let mut bad = payload.clone();
            bad[at] ^= 0xff;
            let _ = codec.decompress(&bad, 0, None, 1 << 20);
        }
    }
}

#[test]
fn decompression_bombs_stop_at_the_limit() {
    let zeros = vec![0; 20 << 20];
    for codec in CODECS {
        let payload = compress(codec, &zeros);
        let error = codec
            .decompress(&payload, 0x1234, None, 10 << 20)
            .unwrap_err();
        assert!(
            matches!(error, BuildError::PayloadTooBig { .. }),
            "{codec}: {error}"
        );
        assert!(
            codec.decompress(&payload, 0, None, 20 << 20).is_ok(),
            "{codec}"
        );
    }
}

#[test]
fn greedy_dictionaries_are_refused() {
    // lc=3 lp=0 pb=2, a dictionary of 4 GiB - 64 KiB, unknown size.
    let lzma = b"\x5d\0\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\0\0\0\0\0\0";
    // Window descriptor of 128 GiB.
    let zstd = b"\x28\xb5\x2f\xfd\0\xd8\0\0\0\0\0";
    for (codec, bytes) in [(Codec::Lzma, &lzma[..]), (Codec::Zstd, &zstd[..])] {
        let error = codec
            .decompress(bytes, 0, None, MAX_DECOMPRESSED)
            .unwrap_err();
        assert!(
            matches!(error, BuildError::Decompress { produced: 0, .. }),
            "{codec}: {error}"
        );
    }
}

#[test]
fn files_that_are_no_kernels_are_told_apart() {
    let good = bzimage(&compress(Codec::Gzip, b"no ELF at all"), 13);
    let patched = |at: usize, byte: u8| {
        let mut file = good.clone();
        file[at] = byte;
        file
    };
    let cases: [(&[u8], ErrorKind, &str); 10] = [
        (b"", ErrorKind::NotAKernel, "it is empty"),
        (b"#!/bin/sh\n", ErrorKind::NotAKernel, "23 21 2f 62"),
        (
            &good,
            ErrorKind::BadImage,
            "not ELF (it starts with 6e 6f 20 45",
        ),
        (&patched(0x207, 1), ErrorKind::Unsupported, "protocol 1.15"),
        (&patched(0x206, 7), ErrorKind::Unsupported, "protocol 2.07"),
        (
            &patched(0x24b, 1),
            ErrorKind::BadImage,
            "The bzImage payload at offset 0x10008cc",
        ),
        (
            &patched(0x24f, 0xff),
            ErrorKind::BadImage,
            "reaches beyond the image",
        ),
        (&patched(0x8cc, 0), ErrorKind::BadImage, "unknown payload"),
        (
            good.get(..0x24e).unwrap(),
            ErrorKind::BadImage,
            "The bzImage header",
        ),
        (
            &bzimage(&compress(Codec::Lzo, b""), 0),
            ErrorKind::Unsupported,
            "compressed with lzo",
        ),
    ];
    for (file, kind, text) in cases {
        let (found, message) = error(file);
        assert!(
            found == kind && message.contains(text),
            "{found:?} {message}, not {text}"
        );
    }
}

#[test]
fn a_payload_in_the_cache_is_recalled_from_the_file_read_once() {
    let dir = tempfile::tempdir().unwrap();
    let cache = PayloadCache::new(dir.path());
    // Longer than what is read for the header.
    let elf = elf_of(40_000_000);
    let file = bzimage(&compress(Codec::Gzip, &elf), elf.len());
    assert!(file.len() as u64 > SETUP_LIMIT, "{}", file.len());
    let path = dir.path().join("kernel");
    let stored = |bytes: &[u8]| {
        std::fs::write(&path, bytes).unwrap();
        std::fs::File::open(&path).unwrap()
    };
    assert!(KernelImage::recall(&stored(&file), &cache).is_none());
    let first = KernelImage::open(stored(&file), &path, Some(&cache)).unwrap();
    assert_eq!(first.elf(), elf);
    let again = KernelImage::recall(&stored(&file), &cache).unwrap();
    assert_eq!(again.elf(), first.elf());
    assert_eq!(again.origin(), first.origin());
    assert!(matches!(again.elf, Bytes::Cached(_)));
    let (mut changed, end) = (file.clone(), file.len() - b"what follows a payload".len());
    changed[end - 1] ^= 1;
    assert!(KernelImage::recall(&stored(&file[..end]), &cache).is_some());
    for other in [&file[..end - 1], &file[..700], b"", &changed] {
        assert!(KernelImage::recall(&stored(other), &cache).is_none());
    }
}
