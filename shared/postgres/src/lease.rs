//! A connection at work.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::runtime::Handle;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::DatabaseError;

/// How long the request to cancel a statement may take.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(2);

/// A connection whose work is not done. When that is given up, by its deadline or because nobody waits for it any more,
/// the server is told to do the same: what is not waited for must not go on holding locks, or a place among the
/// server's connections. Nor does the connection go back to the pool, for its transaction may be open.
pub(super) struct Lease {
    /// There until it is given back.
    connection: Option<Object>,
    tls: MakeRustlsConnect,
}

impl Lease {
    pub(super) fn new(connection: Object, tls: MakeRustlsConnect) -> Self {
        Self { connection: Some(connection), tls }
    }

    /// Lends the connection to some work.
    pub(super) async fn to<T>(&self, work: impl AsyncFnOnce(&Object) -> Result<T, DatabaseError>) -> Result<T, DatabaseError> {
        match &self.connection {
            Some(connection) => work(connection).await,
            None => Err(DatabaseError::no_answer()),
        }
    }

    /// Ends the loan, as the work is done.
    pub(super) fn release(mut self) -> Option<Object> {
        self.connection.take()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let (token, tls) = (connection.cancel_token(), self.tls.clone());
        drop(Object::take(connection));
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(async move {
                // Whether the server has heard it makes no difference: the statement has a deadline of its own, too.
                let _ = tokio::time::timeout(CANCEL_TIMEOUT, token.cancel_query(tls)).await;
            });
        }
    }
}
