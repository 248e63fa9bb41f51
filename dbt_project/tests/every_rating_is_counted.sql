{{ config(meta={'dagster': {'ref': {'name': 'fct_ratings'}}}) }}
-- Merging ids of one film and repeated ratings loses no row of the files, and none of the app that has its film and
-- person here: each is counted in times_rated. Of streaming titles those that are a film.
with movielens_ratings as (

    select count(*) as row_count from {{ source('raw', 'ml_ratings') }}

),

of_the_app as (

    select count(*) as row_count from {{ ref('int_ratings_keyed') }}
    where edition = 'app'

),

streaming_ratings as (

    select count(*) as row_count
    from {{ ref('stg_streaming__ratings') }} as ratings
    inner join {{ ref('int_streaming_matches') }} as matches on ratings.title_id = matches.title_id

),

counted as (

    select coalesce(sum(times_rated), 0) as row_count from {{ ref('fct_ratings') }}

),

raw_ratings as (

    select movielens_ratings.row_count + of_the_app.row_count + streaming_ratings.row_count as row_count
    from movielens_ratings
    cross join of_the_app
    cross join streaming_ratings

),

final as (

    select
        raw_ratings.row_count as in_sources,
        counted.row_count as in_fct_ratings
    from raw_ratings
    cross join counted
    where raw_ratings.row_count != counted.row_count

)

select * from final
