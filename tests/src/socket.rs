//! A websocket client, as a front end would be one.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use crate::{PATIENCE, Person};

/// An open socket.
pub struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    /// Connects without a token.
    pub async fn connect(url: &str) -> Self {
        let request = format!("{}/ws", url.replacen("http", "ws", 1))
            .into_client_request()
            .expect("a request");
        let (stream, _) = tokio_tungstenite::connect_async(request).await.expect("a websocket");
        Self { stream }
    }

    /// Connects and authenticates as somebody.
    pub async fn of(person: &Person) -> Self {
        let mut socket = Self::connect(&person.api.url).await;
        socket.send(json!({ "type": "authenticate", "token": person.api.token })).await;
        assert_eq!(socket.next().await["type"], "authenticated");
        socket
    }

    /// Sends a JSON message.
    pub async fn send(&mut self, message: Value) {
        self.send_text(&message.to_string()).await;
    }

    /// Sends a text as it is.
    pub async fn send_text(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.expect("the socket is open");
    }

    /// Sends a text that the server may refuse while it is still coming.
    pub async fn send_too_much(&mut self, text: &str) {
        let _ = self.stream.send(Message::text(text)).await;
    }

    /// The next JSON message.
    pub async fn next(&mut self) -> Value {
        match tokio::time::timeout(PATIENCE, self.read()).await.expect("a message in time") {
            Ok(message) => message,
            Err(code) => panic!("the socket was closed with {code:?}"),
        }
    }

    /// Whether nothing comes for a while.
    pub async fn is_silent(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.read()).await.is_err()
    }

    /// Waits for the close and gives its code.
    pub async fn closed(&mut self) -> Option<u16> {
        let read = async {
            loop {
                if let Err(code) = self.read().await {
                    return code;
                }
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("a close in time")
    }

    /// The next message, or the code of the close.
    async fn read(&mut self) -> Result<Value, Option<u16>> {
        loop {
            match self.stream.next().await {
                Some(Ok(Message::Text(text))) => {
                    return Ok(serde_json::from_str(&text).expect("the server speaks JSON"));
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map(|frame| frame.code.into())),
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(None),
            }
        }
    }
}
