//! A Redis store that is wiped at a chosen moment: between two commands of the fold.

use std::sync::{Arc, Mutex};

use dividend_meter::Totals;
use dividend_meter::aggregate::{
    Aggregate, AggregateStore, Fence, Published, RedisStore, RowKey, StoreError, WindowKey,
};
use tokio::sync::oneshot;

/// Wipes the server just before one of the commands that pass through.
pub struct WipedStore {
    store: RedisStore,
    server: redis::Client,
    order: Arc<Mutex<Option<Order>>>,
}

/// Orders the wipes of a [`WipedStore`].
pub struct Wipe(Arc<Mutex<Option<Order>>>);

struct Order {
    commands_before: u32,
    done: oneshot::Sender<()>,
}

impl Wipe {
    /// Lets so many commands pass and wipes the server before the next; returns when it is wiped.
    pub async fn after(&self, commands: u32) {
        let (done, wiped) = oneshot::channel();
        *self.0.lock().unwrap() = Some(Order { commands_before: commands, done });
        wiped.await.unwrap();
    }
}

impl WipedStore {
    pub fn new(url: &str) -> (Self, Wipe) {
        let order = Arc::new(Mutex::new(None));
        let (store, server) = (RedisStore::new(url).unwrap(), redis::Client::open(url).unwrap());
        (Self { store, server, order: order.clone() }, Wipe(order))
    }

    fn before_command(&self) {
        let mut order = self.order.lock().unwrap();
        match order.take() {
            Some(Order { commands_before: 0, done }) => {
                redis::cmd("FLUSHALL").exec(&mut self.server.get_connection().unwrap()).unwrap();
                done.send(()).unwrap();
            }
            Some(Order { commands_before, done }) => {
                *order = Some(Order { commands_before: commands_before - 1, done });
            }
            None => {}
        }
    }
}

impl AggregateStore for WipedStore {
    async fn publish(
        &mut self,
        key: WindowKey,
        expected: Option<Fence>,
        rows: &[(RowKey, Totals)],
        fence: Fence,
    ) -> Result<Published, StoreError> {
        self.before_command();
        self.store.publish(key, expected, rows, fence).await
    }

    async fn fence(&mut self, key: WindowKey) -> Result<Option<Fence>, StoreError> {
        self.before_command();
        self.store.fence(key).await
    }

    async fn read(&mut self, key: WindowKey) -> Result<Option<Aggregate>, StoreError> {
        self.before_command();
        self.store.read(key).await
    }

    async fn announce(&mut self, key: WindowKey) -> Result<(), StoreError> {
        self.before_command();
        self.store.announce(key).await
    }

    async fn windows(&mut self) -> Result<Vec<WindowKey>, StoreError> {
        self.before_command();
        self.store.windows().await
    }

    async fn retire(&mut self, key: WindowKey) -> Result<(), StoreError> {
        self.before_command();
        self.store.retire(key).await
    }
}
