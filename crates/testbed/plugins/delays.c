/* A plugin that delays every CONNECT and never answers. It shows what closed connections do to the broker
 * without our plugin. Only the client "last" is refused, after a SIGHUP: until then the broker blocks in the
 * middle of an iteration of its loop. */
#include <signal.h>
#include <string.h>

#include "plugin.h"

/* Not in the headers of 2.0. */
#define AUTH_DELAYED (-5)

static int basic_auth(int event, void *data, void *userdata)
{
	struct mosquitto_evt_basic_auth *question = data;
	sigset_t hangup, before;

	(void)event;
	(void)userdata;
	if(strcmp(mosquitto_client_id(question->client), "last")){
		mosquitto_log_printf(MOSQ_LOG_INFO, "%s waits", mosquitto_client_id(question->client));
		return AUTH_DELAYED;
	}
	sigemptyset(&hangup);
	sigaddset(&hangup, SIGHUP);
	/* Blocked until sigsuspend, so that a SIGHUP in between is not lost. */
	sigprocmask(SIG_BLOCK, &hangup, &before);
	mosquitto_log_printf(MOSQ_LOG_INFO, "the broker stands still");
	sigsuspend(&before);
	sigprocmask(SIG_SETMASK, &before, NULL);
	return MOSQ_ERR_AUTH;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, basic_auth, NULL, NULL);
}
