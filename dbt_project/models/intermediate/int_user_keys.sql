-- A key is never given twice, so the row of somebody who asked to be forgotten stays, and names nobody any more. Of the
-- app's own people it is those whom the store no longer has; a store that is away says nothing of anybody.
{{ config(
    materialized='incremental', incremental_strategy='append', full_refresh=false, on_schema_change='fail',
    post_hook="
        update {{ this }} set source = 'forgotten', source_id = cast(user_key as varchar)
        where (source = 'app' and source_id not in (
                select cast(app.source_id as varchar) from {{ ref('stg_app__users') }} as app where app.source = 'app'
            ) and exists (select 1 from {{ ref('stg_app__state') }}))
            or exists (
                select 1 from {{ source('raw', 'ml_suppressed') }} as gone
                where gone.edition = source and cast(gone.user_id as varchar) = source_id
            )
    "
) }}

with ratings as (

    select * from {{ ref('stg_movielens__ratings') }}

),

tags as (

    select * from {{ ref('stg_movielens__tags') }}

),

users as (

    select * from {{ ref('stg_movielens__users') }}

),

people_of_the_app as (

    select * from {{ ref('stg_app__users') }}

),

streaming_ratings as (

    select * from {{ ref('stg_streaming__ratings') }}

),

known as (

    {% if is_incremental() %}
    select * from {{ this }}
    {% else %}
    select
        cast(null as bigint) as user_key,
        cast(null as varchar) as source,
        cast(null as varchar) as source_id
    where false
    {% endif %}

),

ids as (

    select
        edition,
        user_id
    from ratings
    union
    select
        edition,
        user_id
    from tags
    union
    select
        edition,
        user_id
    from users
    union
    select
        source as edition,
        source_id as user_id
    from people_of_the_app
    where source = 'app'
    union
    select
        'streaming' as edition,
        user_id
    from streaming_ratings

),

new_ids as (

    select ids.*
    from ids
    left join known on ids.edition = known.source and cast(ids.user_id as varchar) = known.source_id
    where known.user_key is null

),

last_key as (

    select coalesce(max(user_key), 0) as user_key
    from known

),

final as (

    select
        cast(
            last_key.user_key + row_number() over (order by new_ids.edition, new_ids.user_id) as bigint
        ) as user_key,
        new_ids.edition as source,
        cast(new_ids.user_id as varchar) as source_id
    from new_ids
    cross join last_key

)

select * from final
