//! The head of the server's answer, whole and byte by byte.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use urlsession::internals::HeadParser;

/// What a server behind a proxy answers.
const TYPICAL: &str = "HTTP/1.1 101 Switching Protocols\r\n\
    Date: Thu, 26 Nov 2026 10:40:00 GMT\r\n\
    Connection: upgrade\r\n\
    Upgrade: websocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
    Sec-WebSocket-Protocol: chat\r\n\
    Server: nginx/1.27.3\r\n\
    Strict-Transport-Security: max-age=31536000; includeSubDomains\r\n\
    Set-Cookie: session=0123456789abcdef0123456789abcdef; Path=/; Secure; HttpOnly; SameSite=Lax\r\n\
    \r\n";

pub fn benches(criterion: &mut Criterion) {
    let largest = largest();
    let mut group = criterion.benchmark_group("head");
    for (name, head) in [("typical", TYPICAL), ("65536", &largest)] {
        group.throughput(Throughput::Bytes(head.len() as u64));
        for (way, piece) in [("whole", head.len()), ("byte by byte", 1)] {
            group.bench_function(format!("{name}/{way}"), |bencher| {
                bencher.iter(|| assert!(parse(black_box(head.as_bytes()), piece)));
            });
        }
    }
    group.finish();
}

/// The longest head that is admitted, with nearly as many fields as are.
fn largest() -> String {
    const BYTES: usize = 64 * 1024;
    let mut head = "HTTP/1.1 101 Yes\r\n".to_owned();
    for number in 0..120 {
        head += &format!("X-Field-{number:03}: {}\r\n", "abcdefgh".repeat(66));
    }
    let end = "X: \r\n\r\n";
    let rest = BYTES - head.len() - end.len();
    head += &format!("X: {}\r\n\r\n", "y".repeat(rest));
    assert_eq!(head.len(), BYTES);
    head
}

/// Whether the head was complete at its last byte.
fn parse(head: &[u8], piece: usize) -> bool {
    let mut parser = HeadParser::default();
    let mut complete = false;
    for mut bytes in head.chunks(piece) {
        complete = parser.parse(&mut bytes).unwrap().is_some();
    }
    complete
}
