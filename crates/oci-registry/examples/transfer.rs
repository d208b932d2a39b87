//! Transfers artifacts between files, layouts and registries, and prints the number of requests and the peak memory.
//! `benches/reach` measures this program.
//!
//! ```console
//! $ cargo run --release --example transfer -- push 127.0.0.1:5000/demo:1 FILE…
//! $ cargo run --release --example transfer -- pull 127.0.0.1:5000/demo:1 DIRECTORY
//! $ cargo run --release --example transfer -- copy oci:DIRECTORY:1 127.0.0.1:5000/demo:1
//! $ cargo run --release --example transfer -- tags 127.0.0.1:5000/demo
//! ```

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::{StreamExt, TryStreamExt};
use oci_registry::{
    Access, Annotations, Blob, Client, ClientOptions, CopyOptions, Environment, FileEntry,
    FileName, LocationText, MediaType, Meter, Mode, Packed, Source, Tag, Target, UnpackOptions,
    copy, unpack,
};

type ExampleResult<T> = Result<T, Box<dyn std::error::Error>>;

/// Number of files that are uploaded at the same time.
const CONCURRENCY: usize = 4;

const TITLE: &str = "org.opencontainers.image.title";

#[tokio::main]
async fn main() -> ExampleResult<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let client = Client::new(ClientOptions::new(Environment::default()));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["push", to, files @ ..] => push(&client, to, files).await?,
        ["pull", from, directory] => pull(&client, from, directory).await?,
        ["copy", from, to] => mirror(&client, from, to).await?,
        ["tags", repository] => tags(&client, repository).await?,
        _ => return Err("usage: transfer push REFERENCE FILE… | pull REFERENCE DIRECTORY | copy FROM TO | tags REPOSITORY".into()),
    }
    let stats = client.transfer_stats();
    #[expect(
        clippy::print_stderr,
        reason = "statistics are printed in addition to the data"
    )]
    {
        eprintln!(
            "{{\"requests\":{},\"peak_kib\":{}}}",
            stats.requests,
            peak_kib().unwrap_or(0)
        );
    }
    Ok(())
}

async fn push(client: &Client, to: &str, files: &[&str]) -> ExampleResult<()> {
    let (target, tag) = open(client, to).await?;
    let sending = files.iter().map(|file| {
        let target = Arc::clone(&target);
        async move {
            let path = Path::new(file);
            let (mut blob, _) = target
                .push_file(MediaType::OCTET_STREAM, path, &Meter::default())
                .await?;
            let title = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            blob.descriptor_mut()
                .annotations
                .insert(TITLE.into(), title);
            Ok::<Blob, oci_registry::Error>(blob)
        }
    });
    let layers: Vec<Blob> = futures_util::stream::iter(sending)
        .buffered(CONCURRENCY)
        .try_collect()
        .await?;
    let packed = Packed::new(
        "application/vnd.example.files".into(),
        Blob::empty(),
        layers,
        Annotations::new(),
    )?;
    target.push_blob(&Blob::empty()).await?;
    target.push_manifest(packed.manifest()).await?;
    target.tag(packed.manifest(), &tag).await?;
    Ok(())
}

async fn pull(client: &Client, from: &str, directory: &str) -> ExampleResult<()> {
    let (source, tag) = open(client, from).await?;
    let manifest = source.manifest(&tag.into()).await?;
    let layers = manifest
        .as_image()
        .map(|image| image.layers.clone())
        .unwrap_or_default();
    let mut files = Vec::new();
    for layer in layers {
        let name: FileName = layer
            .annotation(TITLE)
            .ok_or("missing title of a layer")?
            .parse()?;
        files.push(FileEntry {
            descriptor: layer,
            name,
            executable: false,
        });
    }
    unpack(
        &*source,
        &files,
        Path::new(directory),
        UnpackOptions::default(),
    )
    .await?;
    Ok(())
}

async fn mirror(client: &Client, from: &str, to: &str) -> ExampleResult<()> {
    let ((source, root), (target, tag)) = (open(client, from).await?, open(client, to).await?);
    let source: Arc<dyn Source> = source;
    let options = CopyOptions {
        tags: vec![tag],
        ..CopyOptions::default()
    };
    copy(&source, &root.into(), &*target, options).await?;
    Ok(())
}

async fn tags(client: &Client, repository: &str) -> ExampleResult<()> {
    let repository = client.repository(&repository.parse()?, Access::Pull)?;
    let count = AtomicUsize::new(0);
    repository
        .tags()
        .try_for_each(|_| async {
            count.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
        .await?;
    #[expect(clippy::print_stdout, reason = "the number of tags is the output")]
    {
        println!("{}", count.into_inner());
    }
    Ok(())
}

async fn open(client: &Client, text: &str) -> ExampleResult<(Arc<dyn Target>, Tag)> {
    let here = Path::new("");
    let location = text.parse::<LocationText>()?.locate_target(here)?;
    let Some(tag) = location.tag().cloned() else {
        return Err("missing tag".into());
    };
    let target = client.open_target(&location, here, Mode::Write).await?;
    Ok((target, tag))
}

/// Returns the peak resident memory of this process in KiB, if the system reports it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}
