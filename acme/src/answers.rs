//! Challenge answers of one order: handed to the control task, and taken back whatever happens.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sekisho_config::model::{ChallengeAnswer, Revision};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tracing::error;

use crate::Event;
use crate::failure::{Failure, FailureKind};

/// For the control task to take an event from the queue.
const HANDOVER: Duration = Duration::from_secs(10);

/// For the control task to publish a snapshot that serves the answer.
const PUBLISH: Duration = Duration::from_secs(30);

/// The answers that one order has out.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    events: mpsc::Sender<Event>,
    open: Arc<Mutex<BTreeSet<Arc<str>>>>,
}

impl Answers {
    pub(crate) fn new(events: mpsc::Sender<Event>) -> Self {
        Self {
            events,
            open: Arc::default(),
        }
    }

    /// Hands an answer over. The receiver hears when it is served.
    pub(crate) async fn publish(
        &self,
        token: Arc<str>,
        key_authorization: &str,
    ) -> Result<oneshot::Receiver<Revision>, Failure> {
        let (published, served) = oneshot::channel();
        let event = Event::Answer {
            token: Arc::clone(&token),
            answer: ChallengeAnswer {
                key_authorization: key_authorization.into(),
            },
            published,
        };
        match timeout(HANDOVER, self.events.send(event)).await {
            Ok(Ok(())) => {
                // No await in between: an answer that was taken is always on the list.
                self.open
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(token);
                Ok(served)
            }
            Ok(Err(_)) => Err(Failure::cancelled()),
            Err(_) => Err(not_published("was not taken", HANDOVER)),
        }
    }

    /// Waits until every answer is served by a published snapshot: before that the CA must not be told to look.
    pub(crate) async fn served(&self, answers: Vec<oneshot::Receiver<Revision>>) -> Result<(), Failure> {
        let all = async {
            for served in answers {
                served
                    .await
                    .map_err(|_| not_published("was dropped", Duration::ZERO))?;
            }
            Ok(())
        };
        timeout(PUBLISH, all)
            .await
            .unwrap_or_else(|_| Err(not_published("was not served", PUBLISH)))
    }

    /// Takes every answer back. To be called at the end of an order, however it ended; repeating it does nothing.
    pub(crate) async fn withdraw(&self) {
        loop {
            let token = self
                .open
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .pop_first();
            let Some(token) = token else { return };
            if timeout(HANDOVER, self.events.send(Event::AnswerDone { token }))
                .await
                .is_err()
            {
                error!("control task takes no events; a challenge answer stays published until the restart");
            }
        }
    }
}

fn not_published(what: &str, after: Duration) -> Failure {
    let within = if after.is_zero() {
        String::new()
    } else {
        format!(" within {} s", after.as_secs())
    };
    Failure::new(
        FailureKind::NotPublished,
        format!(
            "the challenge answer {what} by the control task{within}, so the CA was not told to look; \
             see the log of this box for what keeps it from publishing"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn every_answer_that_was_taken_is_taken_back_once() {
        let (events, mut inbox) = mpsc::channel(8);
        let answers = Answers::new(events);
        let served = answers.publish("t1".into(), "t1.key").await.unwrap();
        let Some(Event::Answer {
            published, answer, ..
        }) = inbox.recv().await
        else {
            panic!("no answer")
        };
        assert_eq!(&*answer.key_authorization, "t1.key");
        drop(published);
        let failure = answers.served(vec![served]).await.unwrap_err();
        assert_eq!(failure.kind, FailureKind::NotPublished);
        answers.withdraw().await;
        answers.withdraw().await;
        assert!(matches!(inbox.try_recv(), Ok(Event::AnswerDone { token }) if &*token == "t1"));
        assert!(inbox.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_for_the_control_task_is_bounded() {
        let (events, inbox) = mpsc::channel(1);
        let answers = Answers::new(events);
        let served = answers.publish("t1".into(), "x").await.unwrap();
        assert_eq!(
            answers.publish("t2".into(), "x").await.unwrap_err().kind,
            FailureKind::NotPublished
        );
        let failure = answers.served(vec![served]).await.unwrap_err();
        assert!(failure.message.contains("within 30 s"), "{}", failure.message);
        drop(inbox);
        assert_eq!(
            answers.publish("t3".into(), "x").await.unwrap_err().kind,
            FailureKind::Cancelled
        );
        answers.withdraw().await;
    }
}
