//! Rows: listening sockets, connections, TLS. They must never know how sockets are opened.

use super::{Kind, NO_TLS, Row};

pub(super) static ROWS: &[Row] = &[
    Row::new(
        "bind",
        Kind::Bind,
        "127.0.0.1 -::1",
        "Addresses to listen on; a leading '-' means: go on without it if it is not there. The default is the own host only, where Redis listens everywhere.",
    ),
    Row::new("port", Kind::Integer(0, 65535), "6379", "TCP port; 0 = none."),
    Row::new(
        "protected-mode",
        Kind::Bool,
        "yes",
        "Refuses clients from other hosts while no password is set.",
    ),
    Row::new(
        "tcp-backlog",
        Kind::Integer(0, super::INT),
        "511",
        "Connections the kernel may keep waiting to be accepted.",
    )
    .immutable(),
    Row::new(
        "tcp-keepalive",
        Kind::Integer(0, super::INT),
        "300",
        "Seconds of silence before the kernel probes a connection; 0 = never.",
    ),
    Row::new(
        "timeout",
        Kind::Integer(0, super::INT),
        "0",
        "Seconds after which an idle client is closed; 0 = never.",
    ),
    Row::new("unixsocket", Kind::Text, "", "Path of a Unix socket to listen on; empty = none.")
        .immutable(),
    Row::new(
        "unixsocketperm",
        Kind::Octal(0, 0o777),
        "0",
        "Permissions of the Unix socket; 0 = what the umask leaves.",
    )
    .immutable(),
    Row::new(
        "unixsocketgroup",
        Kind::Text,
        "",
        "Group that owns the Unix socket: its number, or its name in /etc/group.",
    )
    .immutable(),
    Row::new("maxclients", Kind::Integer(1, 4_294_967_295), "10000", "Most clients at one time."),
    Row::new(
        "bind-source-addr",
        Kind::Text,
        "",
        "Address from which connections to other servers are made; empty = the system chooses.",
    ),
    Row::new(
        "socket-mark-id",
        Kind::Integer(0, 4_294_967_295),
        "0",
        "Mark put on the sockets, for routing rules of the kernel.",
    )
    .immutable()
    .later("marking sockets is not implemented"),
    Row::new(
        "max-new-connections-per-cycle",
        Kind::Integer(1, 1000),
        "10",
        "Connections accepted at one go.",
    )
    .harmless("workers accept with a bound of their own"),
    Row::new(
        "max-new-tls-connections-per-cycle",
        Kind::Integer(1, 1000),
        "1",
        "TLS connections accepted at one go.",
    )
    .harmless(NO_TLS),
    Row::new("tls-port", Kind::Integer(0, 65535), "0", "Port for TLS; 0 = none.").later(NO_TLS),
    Row::new("tls-cluster", Kind::Bool, "no", "TLS between the nodes of a cluster.").later(NO_TLS),
    Row::new("tls-replication", Kind::Bool, "no", "TLS towards the primary.").later(NO_TLS),
    Row::new(
        "tls-auth-clients",
        Kind::Choice(&["no", "yes", "optional"]),
        "yes",
        "Whether clients must show a certificate.",
    )
    .harmless(NO_TLS),
    Row::new(
        "tls-auth-clients-user",
        Kind::Choice(&["off", "cn", "uri"]),
        "off",
        "Field of a client's certificate that names its user.",
    )
    .later(NO_TLS),
    Row::new("tls-prefer-server-ciphers", Kind::Bool, "no", "The server chooses the cipher.")
        .harmless(NO_TLS),
    Row::new("tls-session-caching", Kind::Bool, "yes", "Keeps TLS sessions for reuse.")
        .harmless(NO_TLS),
    Row::new(
        "tls-session-cache-size",
        Kind::Integer(0, super::INT),
        "20480",
        "Number of TLS sessions kept.",
    )
    .harmless(NO_TLS),
    Row::new(
        "tls-session-cache-timeout",
        Kind::Integer(0, super::INT),
        "300",
        "Seconds a TLS session is kept.",
    )
    .harmless(NO_TLS),
    Row::new("tls-cert-file", Kind::Text, "", "The server's certificate.").harmless(NO_TLS),
    Row::new("tls-key-file", Kind::Text, "", "The server's private key.").harmless(NO_TLS),
    Row::new("tls-key-file-pass", Kind::Secret, "", "Pass phrase of the private key.")
        .harmless(NO_TLS),
    Row::new("tls-client-cert-file", Kind::Text, "", "Certificate shown to other servers.")
        .harmless(NO_TLS),
    Row::new("tls-client-key-file", Kind::Text, "", "Private key used towards other servers.")
        .harmless(NO_TLS),
    Row::new("tls-client-key-file-pass", Kind::Secret, "", "Pass phrase of that key.")
        .harmless(NO_TLS),
    Row::new("tls-dh-params-file", Kind::Text, "", "Diffie-Hellman parameters.").harmless(NO_TLS),
    Row::new("tls-ca-cert-file", Kind::Text, "", "File of trusted authorities.").harmless(NO_TLS),
    Row::new("tls-ca-cert-dir", Kind::Text, "", "Directory of trusted authorities.")
        .harmless(NO_TLS),
    Row::new("tls-protocols", Kind::Text, "", "Protocol versions allowed.").harmless(NO_TLS),
    Row::new("tls-ciphers", Kind::Text, "", "Ciphers up to TLS 1.2.").harmless(NO_TLS),
    Row::new("tls-ciphersuites", Kind::Text, "", "Cipher suites of TLS 1.3.").harmless(NO_TLS),
];
