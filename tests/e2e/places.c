/* A plugin that admits every client and logs from where in the broker's code it was called (src/host.c). */
#include "host.h"
#include "plugin.h"

static int basic_auth(int event, void *data, void *userdata)
{
	struct mosquitto_auth0_place place = mosquitto_auth0_called_from();

	(void)event;
	(void)data;
	(void)userdata;
	mosquitto_log_printf(MOSQ_LOG_INFO, "asked from %#lx %#lx", (unsigned long)place.caller,
		(unsigned long)place.callers_caller);
	return MOSQ_ERR_SUCCESS;
}

int mosquitto_plugin_init(mosquitto_plugin_id_t *id, void **userdata, struct mosquitto_opt *options, int count)
{
	(void)userdata;
	(void)options;
	(void)count;
	return mosquitto_callback_register(id, MOSQ_EVT_BASIC_AUTH, mosquitto_auth0_noting_caller(basic_auth), NULL, NULL);
}
