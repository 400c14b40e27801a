//! The floor: what a server costs that takes the same requests over the same library and does nothing with them.
//!
//! It is built as view-ingest is: a thread and a single-threaded runtime for every other processor, all of them
//! accepting from one listening socket, the same settings of hyper, the same allocator.

use std::{convert::Infallible, net::TcpListener};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONTENT_TYPE, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// As long as view-ingest's answer to a single view.
const ANSWER: &str = r#"{"message":"Просмотр добавлен","viewsCount":42,"status":"counted"}"#;

fn main() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    println!("listening listener=public address={}", listener.local_addr()?);
    let workers = std::thread::available_parallelism()?.get().div_ceil(2);
    let threads = (0..workers).map(|_| {
        Ok(std::thread::spawn({
            let listener = listener.try_clone()?;
            move || work(listener)
        }))
    });
    for thread in threads.collect::<anyhow::Result<Vec<_>>>()? {
        thread.join().map_err(|_| anyhow::anyhow!("a worker panicked"))??;
    }
    Ok(())
}

fn work(listener: TcpListener) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = tokio::net::TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = http1::Builder::new()
                .header_read_timeout(None)
                .max_buf_size(64 * 1024)
                .writev(false)
                .serve_connection(TokioIo::new(stream), service_fn(answer));
            // A connection that breaks is its client's affair.
            tokio::spawn(async move { connection.await.ok() });
        }
    })
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    // A body that breaks off is the client's affair too: nobody reads the answer then.
    let _ = request.into_body().collect().await;
    let mut response = Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes())));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    Ok(response)
}
